"""What is said where a file, its description and the arguments do not fit together."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from centermask_solo import ExportedPredictor
from centermask_solo.runtime.session import _check_fits, open_file
from centermask_solo.utils.errors import ConfigError, DataError, WeightsError
from tests.runtime.files import ABOUT, write_onnx, write_openvino

onnxruntime = pytest.importorskip("onnxruntime")

IMAGE = np.zeros((48, 72, 3), np.uint8)
SWAPPED = replace(ABOUT, outputs=ABOUT.outputs | {"boxes": "masks", "masks": "boxes"})
NO_SIZES = replace(ABOUT.input, image_sizes=False)
BOXES_ONLY = {name: name for name in ABOUT.outputs if name != "masks"}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_onnx(tmp_path_factory.mktemp("onnx") / "model.onnx")


@pytest.mark.parametrize("path", [None, 5, ["model.onnx"]])
def test_what_is_no_path(path):
    with pytest.raises(ConfigError, match=r"is no path of a file: give a text or a pathlib\.Path"):
        ExportedPredictor(path)


@pytest.mark.parametrize("providers", [5, None, [1], [("CPUExecutionProvider",)], [("CPUExecutionProvider", 1)], {}])
def test_what_names_no_providers(providers, path):
    with pytest.raises(ConfigError, match="names no providers: give a list of names, or of pairs"):
        ExportedPredictor(path, providers=providers)


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_fails_is_not_replaced(path, monkeypatch, capfd):
    """Neither by ONNX Runtime in Python nor by that in C++, which both take the CPU instead."""
    available = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    with pytest.raises(ConfigError, match=r"ONNX Runtime cannot use .*CUDAExecutionProvider.* here"):
        ExportedPredictor(path, providers=["CUDAExecutionProvider"])
    create = onnxruntime.InferenceSession._create_inference_session

    def fail(self, providers, *args):
        if providers[0] != "CPUExecutionProvider":
            raise RuntimeError("CUDA failure 100: no CUDA-capable device is detected")
        create(self, providers, *args)

    monkeypatch.setattr(onnxruntime.InferenceSession, "_create_inference_session", fail)
    with pytest.raises(ConfigError, match=r"cannot use .* here \(CUDA failure 100: no .* detected\): correct"):
        ExportedPredictor(path, providers=[("CUDAExecutionProvider", {"device_id": 7})])
    assert "Falling back" not in capfd.readouterr().out


@pytest.mark.parametrize(
    ("about", "options", "fault"),
    [
        (ABOUT, {"inputs": ["images"]}, "the graph takes images, not images, image_sizes"),
        (replace(ABOUT, input=NO_SIZES), {}, "the graph takes image_sizes, images, not images"),
        (replace(ABOUT, outputs=ABOUT.outputs | {"boxes": "corners"}), {}, "the graph has no output corners"),
        (ABOUT, {"size": [64, 96]}, r"takes images of the size \(64, 96\), not any"),
        (replace(ABOUT, input=replace(ABOUT.input, size=(64, 9))), {"size": [64, 96]}, r"\(64, 96\), not \(64, 9\)"),
    ],
)
def test_descriptions_of_other_graphs(about, options, fault, tmp_path):
    path = write_onnx(tmp_path / "model.onnx", about, **options)
    with pytest.raises(WeightsError, match=rf"^the description inside .*model\.onnx is of another model, .*{fault}"):
        open_file(path)


@pytest.mark.parametrize(("write", "name"), [(write_onnx, "model.onnx"), (write_openvino, "model.xml")])
def test_descriptions_of_other_outputs(write, name, tmp_path):
    with pytest.raises(WeightsError, match=r"returns boxes of the size 1 x 3 x 8 x 16, not any x any x 4: export it"):
        open_file(write(tmp_path / name, SWAPPED))


def test_sizes_are_compared_as_far_as_they_are_known(path):
    session, metadata = open_file(path)
    for sizes in ((), (None, None, None), (2, 100, 4)):
        session.outputs["boxes"] = sizes
        _check_fits(session, metadata, path)
    session.outputs["boxes"] = (None, None, 5)
    with pytest.raises(WeightsError, match="returns boxes of the size any x any x 5, not any x any x 4"):
        _check_fits(session, metadata, path)
    _check_fits(session, replace(metadata, variant="raw"), path)


def test_large_images_are_refused_with_the_argument_that_allows_them(path, tmp_path):
    image = str(tmp_path / "image.png")
    Image.fromarray(IMAGE).save(image)
    small, failures = ExportedPredictor(path, max_pixels=72 * 48 - 1), []
    with pytest.raises(DataError, match=r"has 72x48 pixels, more than 3455; .*, give max_pixels=3456 to Exp\w+$"):
        small(image)
    with pytest.raises(DataError, match="max_pixels=3456"):
        next(small.predict_files([image]))
    assert list(small.predict_files([image], failures=failures)) == []
    assert [str(x).split(", ")[-1] for x in failures] == ["give max_pixels=3456 to ExportedPredictor"]
    for limit in (72 * 48, 0):
        assert len(ExportedPredictor(path, max_pixels=limit)(image)["instances"]) == 2


@pytest.mark.parametrize("limit", [-1, None, 1.5, True])
def test_impossible_limits_of_pixels(limit, path):
    with pytest.raises(ConfigError, match=f"max_pixels cannot be {limit!r}: give 1 or more, or 0"):
        ExportedPredictor(path, max_pixels=limit)


def test_masks_are_needed_and_span_the_input(tmp_path):
    path = write_onnx(tmp_path / "model.onnx", replace(ABOUT, outputs=BOXES_ONLY))
    with pytest.raises(WeightsError, match="lacks the output masks: export it again"):
        ExportedPredictor(path)
    about = replace(ABOUT, outputs=BOXES_ONLY, masks=replace(ABOUT.masks, frame="none", boxes=False))
    assert not ExportedPredictor(write_onnx(path, about))(IMAGE)["instances"].has("pred_masks")
    predictor = ExportedPredictor(write_onnx(path, replace(ABOUT, masks=replace(ABOUT.masks, stride=2))))
    with pytest.raises(WeightsError, match="is of another model, as its masks are smaller: export it again"):
        predictor(IMAGE)


@pytest.mark.parametrize("batch_size", [0, -1, "2", 1.5, None, True])
def test_impossible_batches(batch_size, path):
    with pytest.raises(ConfigError, match="images per forward pass are impossible: give 1 or more"):
        next(ExportedPredictor(path).predict_files(["absent.png"], batch_size))


def test_the_reasons_of_openvino(tmp_path):
    """Not the places in its sources, which it names first."""
    path = write_openvino(tmp_path / "model.xml")
    with pytest.raises(ConfigError, match=r"cannot run .*model\.xml on 'CPU\.7' \(CPU plugin .*\): choose one of CPU"):
        ExportedPredictor(path, providers="CPU.7")
    with pytest.raises(
        ConfigError, match=r"cannot run .* on 'HETERO:[^(]*' \((?!Exception from).+\): choose one of CPU"
    ):
        ExportedPredictor(path, providers="HETERO:NPU,CPU")
    (tmp_path / "model.xml").write_text("content")
    with pytest.raises(WeightsError, match=r"cannot be read by OpenVINO \(Unable to read the model: .*export it again"):
        ExportedPredictor(path)


def test_lost_results_are_one_line(tmp_path):
    """As of runtimes that compute a model incorrectly; here, a file with the results of one image for two."""
    predictor = ExportedPredictor(write_onnx(tmp_path / "model.onnx"))
    image = np.zeros((48, 72, 3), np.uint8)
    assert len(predictor(image)["instances"]) == 2
    with pytest.raises(WeightsError, match=r"model\.onnx returned 1 \w+ for 2 images: .*without --int8"):
        predictor.predict_batch([image, image])


def test_what_openvino_cannot_compute_is_one_line(tmp_path, monkeypatch):
    predictor = ExportedPredictor(write_openvino(tmp_path / "model.xml"))

    def fail(*_, **__):
        raise RuntimeError("Exception from src/node.cpp:794:\nArgument shapes are inconsistent\n")

    monkeypatch.setattr(predictor._session, "_model", fail)
    with pytest.raises(WeightsError, match=r"cannot compute .*model\.xml \(Argument shapes are inconsistent\): export"):
        predictor(IMAGE)
