"""Arguments of Python calls that cannot be meant, which the command line refuses by itself."""

from types import SimpleNamespace

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from centermask_solo import export_model
from centermask_solo.export import exporter
from centermask_solo.model_zoo import exporting, get_config
from centermask_solo.model_zoo.exporting import on_the_cpu
from centermask_solo.runtime.session import open_file
from centermask_solo.utils.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"max_detections": 0}, "max_detections cannot be 0: give 1 to 3840, or None"),
        ({"max_detections": "5"}, "max_detections cannot be '5': give 1 to 3840, or None"),
        ({"max_detections": 3841}, "max_detections cannot be 3841: give 1 to 3840, or None"),
        ({"size": 640}, "640 is no size of images"),
        ({"size": (64, 9999999)}, r"\(64, 9999999\) is no size of images: give height .* from 1 to 8192, or none for"),
        ({"images": ["photos/"], "verify": False}, "images have no use: leave out --images or --no-verify"),
        ({"size": (640,)}, r"\(640,\) is no size of images"),
        ({"size": (64.5, 64)}, r"\(64.5, 64\) is no size of images"),
        ({"dataset": "shapes_val", "ground_truth": "val.json"}, "are ground truth: give one of them"),
        ({"ground_truth": "val.json", "images": ["absent/"]}, "absent/ is no folder: give that of the images of val"),
    ],
)
def test_impossible_choices_are_one_line(choice, words, tmp_path):
    with pytest.raises(ConfigError, match=words):
        export_model(tmp_path / "weights.pth", tmp_path / "model.onnx", **choice)


@pytest.fixture
def unusual(monkeypatch):
    """The predictor of a model that may find 5,000 instances, with too few names of classes."""
    model = SimpleNamespace(test_score_thresh=0.1, test_max_detections=5000)
    monkeypatch.setattr(exporter, "instance_part", lambda model: SimpleNamespace(eval=lambda: model))
    metadata = {"thing_classes": ["a", "b"]}
    return SimpleNamespace(cfg=get_config("shapes/yolact_shapes.yaml"), model=model, metadata=metadata)


def test_the_limit_of_a_model_may_be_more_than_a_file_can_have(unusual):
    with pytest.raises(ConfigError, match="max_detections cannot be 5000: give 1 to 3840"):
        exporter.trace_predictor(unusual, exporter.ExportOptions())


def test_files_find_no_more_than_their_model(caplog):
    slots = [exporter._num_slots(asked, limit) for asked, limit in ((7, 50), (None, 50), (7, -1), (None, -1))]
    assert slots == [7, 50, 7, 100] and not caplog.messages
    assert exporter._num_slots(51, 50) == 50
    assert "the model finds at most 50 instances in an image, fewer than max_detections" in caplog.text


def test_files_name_every_class_or_none(unusual, caplog):
    assert exporter._class_names(unusual, 2) == ("a", "b") and not caplog.messages
    assert exporter._class_names(unusual, 10) is None
    assert caplog.messages == ["the file has no names of classes: there are 2 names for 10 classes"]


@pytest.mark.parametrize("paths", [(None, "model.onnx"), ("weights.pth", None)])
def test_what_is_no_path(paths):
    with pytest.raises(ConfigError, match="None is no path of a file"):
        export_model(*paths)


def test_files_have_no_augmentation_and_compute_as_graphs_do(caplog):
    cfg = get_config("shapes/yolact_shapes.yaml")
    cfg.TEST.AUG.ENABLED = cfg.TEST.CUDA_GRAPHS = cfg.TEST.COMPILE = True
    cfg.TEST.DTYPE, cfg.MODEL.DEVICE = "int8", "cuda"
    cfg = on_the_cpu(cfg)
    assert (cfg.TEST.AUG.ENABLED, cfg.TEST.CUDA_GRAPHS, cfg.TEST.COMPILE) == (False, False, False)
    assert (cfg.TEST.DTYPE, cfg.MODEL.DEVICE, cfg.MODEL.CHANNELS_LAST) == ("float32", "cpu", False)
    assert caplog.messages == ["exported files have no test-time augmentation: TEST.AUG.ENABLED becomes False"]
    on_the_cpu(cfg)
    assert len(caplog.messages) == 1


def test_the_ap_in_pytorch_is_that_of_a_model_with_these_options(monkeypatch):
    given = []
    monkeypatch.setattr(exporting, "evaluate_weights", lambda weights, opts, **others: given.append(opts))
    exporting._evaluate("weights.pth", "dataset", opts=["TEST.AUG.ENABLED", "True"])
    exporting._evaluate("model.onnx", "dataset")
    assert given == [["TEST.AUG.ENABLED", "True", *exporting.AS_EXPORTED], ()]


@pytest.mark.parametrize("name", ["images", "int8"])
def test_one_path_is_a_list_of_one(name, tmp_path):
    with pytest.raises(DataError, match=r"there is no image absent\.png"):
        export_model(tmp_path / "weights.pth", tmp_path / "model.onnx", **{name: "absent.png"})


@pytest.mark.parametrize("threads", [0, True, "4", 1025])
def test_impossible_threads_are_refused(threads, tmp_path):
    with pytest.raises(ConfigError, match=f"{threads!r} threads are impossible: give 1 to 1024, or None"):
        open_file(str(tmp_path / "model.onnx"), threads)


def test_one_provider_is_a_list_of_one(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"content")
    with pytest.raises(ConfigError, match="no provider 'NoExecutionProvider'"):
        open_file(str(path), providers="NoExecutionProvider")
