"""Convolutions in 8-bit integers: which ones, and how far they are from float32."""

import logging
import re

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from centermask_solo.cli import main
from centermask_solo.export.int8 import Calibration, _quiet, quantize
from centermask_solo.export.target import Target
from centermask_solo.export.verification import compare, verify
from centermask_solo.runtime.instances import ExportedInstances
from centermask_solo.runtime.metadata import Input, Resize
from centermask_solo.utils.errors import ConfigError
from centermask_solo.utils.text import counted
from tests.commands import refuses
from tests.export.models import save_weights, write_ground_truth
from tests.export.test_verification import METADATA, result

RULE = Input("RGB", (0.0,) * 3, (1.0,) * 3, 1, Resize(0, 0, True), None, (1, 1), False)
RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, 256, (24, 20, 3), np.uint8) for _ in range(3)]


def two_convolutions():
    """A graph of images, a convolution "first" and another one "second"."""
    shapes = {"first": (16, 3, 3, 3), "second": (4, 16, 3, 3)}
    weights = [numpy_helper.from_array(RNG.standard_normal(s).astype(np.float32) / 9, n) for n, s in shapes.items()]
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "first"], ["features"], "conv1"),
        helper.make_node("Conv", ["features", "second"], ["maps"], "conv2"),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", "H", "W", 3])
    maps = helper.make_tensor_value_info("maps", TensorProto.FLOAT, ["N", 4, None, None])
    graph = helper.make_graph(nodes, "graph", [images], [maps], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model, image):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": image[None]})[0]


def test_only_the_chosen_convolutions_are_rounded_and_little(capfd):
    model = two_convolutions()
    expected = run(model, IMAGES[0])
    entry = model.metadata_props.add()
    entry.key, entry.value = "about", "text"
    found = quantize(model, Calibration(IMAGES, frozenset({"first"})), RULE)
    weights = {x.input[0]: x for x in found.graph.node if x.op_type == "DequantizeLinear"}
    convolutions = {x.name: x for x in found.graph.node if x.op_type == "Conv"}
    assert any(x.startswith("first") for x in weights)
    assert convolutions["conv2"].input[1] == "second"
    (rounded,) = (x for x in found.graph.initializer if x.name.startswith("first_quant"))
    assert rounded.data_type == TensorProto.INT8
    assert [x.value for x in found.metadata_props if x.key == "about"] == ["text"]
    error = np.abs(run(found, IMAGES[0]) - expected)
    assert 0 < error.max() < 0.05 * np.abs(expected).max()
    assert "pre-processing" not in capfd.readouterr().err


@pytest.mark.parametrize("level", [logging.NOTSET, logging.INFO, logging.ERROR])
def test_what_a_program_has_disabled_stays_so(level):
    try:
        logging.disable(level)
        with _quiet():
            assert logging.root.manager.disable == max(level, logging.WARNING)
        assert logging.root.manager.disable == level
    finally:
        logging.disable(logging.NOTSET)


def test_a_model_without_such_convolutions_is_refused():
    with pytest.raises(ConfigError, match="no convolution of this model gains"):
        quantize(two_convolutions(), Calibration(IMAGES, frozenset({"other"})), RULE)


def quantized_by_openvino(model, tmp_path, monkeypatch):
    """The model of OpenVINO that is made from an ONNX model."""
    openvino_file = pytest.importorskip("centermask_solo.export.openvino_file")
    from centermask_solo.export import onnx_file

    monkeypatch.setattr(onnx_file, "write", lambda target: onnx.save(model, target.path))
    return openvino_file._quantized(Target(None, METADATA, str(tmp_path / "model.xml")), str(tmp_path))


def test_openvino_computes_the_same_from_the_rounded_model(tmp_path, monkeypatch):
    model = quantize(two_convolutions(), Calibration(IMAGES, frozenset({"first"})), RULE)
    found = quantized_by_openvino(model, tmp_path, monkeypatch)
    import openvino

    compiled = openvino.compile_model(found, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    expected = run(model, IMAGES[0])
    error = np.abs(compiled({"images": IMAGES[0][None]})[0] - expected)
    assert error.max() < 0.02 * np.abs(expected).max()


def test_openvino_refuses_deformable_convolutions_beside_integers(tmp_path, monkeypatch):
    model = two_convolutions()
    model.graph.node.append(helper.make_node("DeformConv", ["features", "third", "offsets"], ["more"]))
    with pytest.raises(ConfigError, match="takes no deformable convolutions beside 8-bit integers: export to ONNX"):
        quantized_by_openvino(model, tmp_path, monkeypatch)


class Found:
    """An exported file of rounded weights that finds the first objects of :func:`result`, with these scores."""

    def __init__(self, *scores, **rounded):
        self.scores = scores
        self.metadata = type("Metadata", (), vars(METADATA) | rounded)

    def run(self, images, sizes):
        return [with_scores(*self.scores) for _ in images]


def with_scores(*scores):
    found = result([0, 1])[: len(scores)]
    return ExportedInstances(found.image_size, **{**found.get_fields(), "scores": np.array(scores, np.float32)})


def compared(reference, found):
    return verify([with_scores(*reference)], found, [("image", np.zeros((6, 6, 3), np.uint8))])


@pytest.mark.parametrize(
    ("rounded", "words"), [({"int8": True}, "8-bit integers"), ({"half": True}, "weights as float16")]
)
def test_the_loss_is_stated_instead_of_bounds(rounded, words):
    found = compared([0.5, 0.5], Found(0.5, **rounded))
    assert found.faults == []
    assert found.loss() == (
        f"{words}: 1 of 2 detections of PyTorch are found, and 0 others "
        "(mean difference of scores 0.000, mean mask IoU 1.000)"
    )
    assert compare("", result([0, 1]), result([0, 1]), METADATA).mean_mask_iou == 1.0


@pytest.mark.parametrize(
    ("reference", "scores", "counts"),
    [
        ((0.41, 0.2), (0.39, 0.2), (1, 1, 1)),  # drawn from 0.4 on; the partner may be below
        ((0.41, 0.2), (0.41, 0.41), (1, 1, 1)),  # and so may that of the reference
        ((0.3, 0.2), (0.3, 0.2), (2, 2, 2)),  # nothing that would be drawn: all count
        ((0.5,), (0.5, 0.5), (1, 2, 1)),
    ],
)
def test_what_would_be_drawn_counts(reference, scores, counts):
    (found,) = compared(reference, Found(*scores, half=True)).differences
    assert (found.reference, found.found, found.matched) == counts


@pytest.mark.parametrize(("reference", "scores"), [((0.5, 0.5), ()), ((), (0.5,))])
def test_a_file_that_loses_or_invents_most_detections_is_out_of_bounds(reference, scores):
    (fault,) = compared(reference, Found(*scores, half=True)).faults
    assert fault.startswith(f"weights as float16: 0 of {len(reference)} detections of PyTorch are found, and ")
    assert fault.endswith(
        f"{counted(len(scores), 'other')}, which is less than half of them, or more others than there are"
    )


@pytest.mark.slow
def test_the_command_states_the_loss_of_ap(tmp_path, capsys):
    weights = save_weights(tmp_path / "weights.pth", "YOLACT")
    truth, images, path = write_ground_truth(tmp_path, weights), str(tmp_path / "images"), str(tmp_path / "int8.onnx")
    command = ["export", "--weights", weights, "--output", path, "--int8", images]
    with_truth = [*command, "--ground-truth", truth]
    assert "give the folder of the images of" in refuses(capsys, with_truth)
    for more in (["--no-verify"], ["--variant", "raw"], ["--size", "64", "64"]):
        assert "the AP needs a comparison of detections" in refuses(capsys, [*with_truth, "--images", images, *more])
    assert "absent.json" in refuses(capsys, [*command, "--ground-truth", "absent.json", "--images", images])
    assert "'absent'" in refuses(capsys, [*command, "--dataset", "absent"])
    # A training whose json has the same name, elsewhere
    other = ["DATASETS.COCO_JSON", "[['truth', 'elsewhere/truth.json', 'elsewhere']]"]
    main([*with_truth, "--images", images, *other])
    text = capsys.readouterr().out
    figures = dict(re.findall(r"^(box|mask) AP: (\S+ in PyTorch, \S+) in the file", text, re.MULTILINE))
    assert set(figures) == {"box", "mask"}
    pairs = {task: tuple(map(float, figure.split(" in PyTorch, "))) for task, figure in figures.items()}
    exact, fast = pairs["mask"]
    assert exact > 60 and 0 < fast < exact  # of what PyTorch itself finds
    assert all(ap > 0 for ap in pairs["box"])  # low, because its boxes are not those around its masks
    assert "for the loss of AP" not in text
