"""Files of other variants and precisions than the default, and what the commands do with one."""

import io
import json
import re
from collections import Counter
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

import onnx

from centermask_solo import ExportedPredictor, export_model
from centermask_solo.cli import main
from centermask_solo.utils.errors import ConfigError
from tests.export.models import eager, photographs, save_weights, write_ground_truth

pytestmark = pytest.mark.slow

SLOTS = 3


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A file with everything that is not the default, its weights, ground truth, and what the command said."""
    folder = tmp_path_factory.mktemp("half")
    weights, path = save_weights(folder / "weights.pth", "YOLACT"), str(folder / "model.onnx")
    truth = write_ground_truth(folder, weights)
    options = ["--variant", "full-masks", "--half", "--max-detections", str(SLOTS), "--ground-truth", truth]
    with redirect_stdout(io.StringIO()) as text:
        main(["export", "--weights", weights, "--output", path, *options, "--images", str(folder / "images")])
    return weights, path, truth, text.getvalue()


def aps(text):
    """The AP of PyTorch and of the file for each task, as the command has printed them."""
    figures = re.findall(r"^(box|mask) AP: (\S+) in PyTorch, (\S+) in the file", text, re.MULTILINE)
    return {task: (float(exact), float(rounded)) for task, exact, rounded in figures}


def test_masks_are_of_the_size_of_the_input_and_weights_of_half_precision(half):
    _, path, *_ = half
    graph = onnx.load(path).graph
    shapes = {x.name: [d.dim_value for d in x.type.tensor_type.shape.dim] for x in graph.output}
    assert shapes["masks"][1] == SLOTS
    image = photographs()[0]
    session = ExportedPredictor(path)._session
    assert session.run({"images": image[None]})["masks"].shape == (1, SLOTS, *image.shape[:2])
    numbers = Counter()
    for x in graph.initializer:
        numbers[x.data_type] += int(np.prod(x.dims))
    assert numbers[onnx.TensorProto.FLOAT16] > 0.9 * numbers.total()


def test_the_best_detections_fill_the_slots(half):
    weights, path, *_ = half
    image = photographs()[0]
    found = ExportedPredictor(path, threads=1)(image)["instances"]
    all_found = eager(weights)(image)["instances"]
    assert len(found) == SLOTS < len(all_found)
    scores = all_found.scores.numpy()
    np.testing.assert_allclose(found.scores, scores[:SLOTS], atol=0.02)  # the weights are rounded
    similar = all_found[scores > found.scores.min() - 0.02]
    overlaps = similar.pred_masks.numpy()[None] & found.pred_masks[:, None]
    either = similar.pred_masks.numpy()[None] | found.pred_masks[:, None]
    ious = overlaps.sum((2, 3)) / either.sum((2, 3))
    assert ious.max(axis=1).min() > 0.9
    assert similar.pred_classes.numpy()[ious.argmax(axis=1)].tolist() == found.pred_classes.tolist()


def test_the_command_states_the_loss_of_ap(half):
    _, _, _, text = half
    assert "weights as float16: " in text and "for the loss of AP" not in text
    exact, rounded = aps(text)["mask"]
    assert 0 < rounded <= exact < 100  # more objects than slots


def test_the_command_evaluates_a_file(half, tmp_path):
    _, path, truth, text = half
    numbers = tmp_path / "metrics.json"
    common = ["--ground-truth", truth, "--images", str(Path(truth).parent / "images")]
    main(["evaluate", "--weights", path, *common, "--output", str(tmp_path / "found"), "--json", str(numbers)])
    metrics = json.loads(numbers.read_text())
    assert {"box": metrics["bbox"]["AP"], "mask": metrics["segm"]["AP"]} == pytest.approx(
        {task: rounded for task, (_, rounded) in aps(text).items()}, abs=0.01
    )


def test_neither_the_weights_nor_other_files_are_lost(tmp_path):
    """Also those that are named with a query, and a .bin that is not the one of an earlier .xml."""
    pytest.importorskip("openvino")
    (tmp_path / "model.bin").write_text("mine")
    with pytest.raises(ConfigError, match=r"model\.bin exists already"):
        export_model(tmp_path / "model.pth", tmp_path / "model.xml")
    for weights in ("model.bin", "model.bin?ema=True"):
        with pytest.raises(ConfigError, match=r"model\.bin is an input, which would be lost"):
            export_model(tmp_path / weights, tmp_path / "model.xml", overwrite=True)
    assert (tmp_path / "model.bin").read_text() == "mine"


def test_the_command_exports_what_networks_compute(tmp_path, capsys):
    weights, path = save_weights(tmp_path / "weights.pth", "YOLACT"), tmp_path / "raw.onnx"
    main(["export", "--weights", weights, "--output", str(path), "--variant", "raw"])
    lines = capsys.readouterr().out.splitlines()
    assert [x.split()[0] for x in lines[1:6]] == ["loc", "conf", "coefficients", "priors", "prototypes"]
    assert lines[-1] == f"wrote {path}"
    assert sorted(x.name for x in tmp_path.iterdir()) == ["raw.onnx", "weights.pth"]
    names = [x.name for x in onnx.load(path).graph.output]
    assert names == ["loc", "conf", "coefficients", "priors", "prototypes"]  # the order that servers expect
