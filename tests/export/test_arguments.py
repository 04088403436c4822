"""Arguments of Python calls that cannot be meant, which the command line refuses by itself."""

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from centermask_solo import export_model
from centermask_solo.runtime.session import open_file
from centermask_solo.utils.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"max_detections": 0}, "0 slots are impossible"),
        ({"max_detections": "5"}, "'5' slots are impossible"),
        ({"size": 640}, "640 is no size of images"),
        ({"size": (640,)}, r"\(640,\) is no size of images"),
        ({"size": (64.5, 64)}, r"\(64.5, 64\) is no size of images"),
        ({"dataset": "shapes_val", "ground_truth": "val.json"}, "are ground truth: give one of them"),
        ({"ground_truth": "val.json", "images": ["absent/"]}, "absent/ is no folder: give that of the images of val"),
    ],
)
def test_impossible_choices_are_one_line(choice, words, tmp_path):
    with pytest.raises(ConfigError, match=words):
        export_model(tmp_path / "weights.pth", tmp_path / "model.onnx", **choice)


@pytest.mark.parametrize("name", ["images", "int8"])
def test_one_path_is_a_list_of_one(name, tmp_path):
    with pytest.raises(DataError, match=r"there is no image absent\.png"):
        export_model(tmp_path / "weights.pth", tmp_path / "model.onnx", **{name: "absent.png"})


@pytest.mark.parametrize("threads", [0, True, "4"])
def test_impossible_threads_are_refused(threads, tmp_path):
    with pytest.raises(ConfigError, match=f"{threads!r} threads are impossible"):
        open_file(str(tmp_path / "model.onnx"), threads)


def test_one_provider_is_a_list_of_one(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"content")
    with pytest.raises(ConfigError, match="no provider 'NoExecutionProvider'"):
        open_file(str(path), providers="NoExecutionProvider")
