"""Detections of fixed shape are those of unlimited shape, with one read on the host for each batch."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from detectron2.structures import Instances
from torch import nn
from torch.nn import functional

from centermask_solo.modeling import slots
from centermask_solo.modeling.instance_nms import InstanceNMS
from centermask_solo.modeling.slots import Output, detect_in_slots
from centermask_solo.ops.host_reads import avoiding_host_reads
from centermask_solo.ops.masks import masks_to_boxes
from centermask_solo.structures.compact_masks import RLEMasks
from centermask_solo.utils.errors import ConfigError
from tests.host_reads import cpu_as_gpu, fake_gpu
from tests.modeling.models import SYSTEMS, THREE_LEVELS

GRIDS = [name for name in SYSTEMS if "SOLO" in name]
SIZES = [(96, 128), (90, 100), (70, 128)]  # all padded to the first one
OUTPUTS = [Output((200, 300), {}), Output((50, 60), {}), Output((70, 128), {})]


@functools.cache
def original(name):
    return SYSTEMS[name].model().eval()


# With three classes, as many pairs of a cell and a class as fill one chunk of masks and part of another
LEVELS = {**THREE_LEVELS, "NUM_GRIDS": [6, 5, 4]}


class Pyramid(nn.Module):
    """Levels of the right sizes: graphs of whole networks are tested elsewhere, and take long to trace."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, stride=4, padding=1)

    def forward(self, images):
        features = {"p2": self.conv(images)}
        for i in range(3, 7):
            features[f"p{i}"] = functional.max_pool2d(features[f"p{i - 1}"], 1, 2)
        return features


@functools.cache
def with_three_levels(name):
    node = SYSTEMS[name].num_classes.rpartition(".")[0]
    model = SYSTEMS[name].model(*(x for key, value in LEVELS.items() for x in (f"{node}.{key}", value)))
    model.backbone = Pyramid(model.backbone.output_shape()["p2"].channels)
    return model.eval()


@pytest.fixture(params=GRIDS)
def model(request):
    return copy.deepcopy(original(request.param))


@pytest.fixture
def solov2():
    return copy.deepcopy(original("SOLOv2"))


@torch.no_grad()
def predictions_of(model: nn.Module):
    rng = torch.Generator().manual_seed(0)
    images = [{"image": torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=rng)} for size in SIZES]
    return model.predict(model.preprocess_image(images).tensor)


def unlimited(model, predictions, outputs=OUTPUTS) -> list[Instances]:
    found = model.inference(predictions, SIZES)
    return [model.postprocess(x, predictions, i, outputs[i].size) for i, x in enumerate(found)]


def fixed(model, predictions, outputs=OUTPUTS, limit=1) -> list[Instances]:
    """The same on a CPU that computes like a GPU, where each read counts."""
    with torch.no_grad(), cpu_as_gpu(limit) as reads:
        found = detect_in_slots(model, predictions, SIZES, outputs, torch.device("cpu"))
    assert reads.reads
    return found


def assert_equal(found: list[Instances], expected: list[Instances]) -> None:
    for x, y in zip(found, expected, strict=True):
        assert x.image_size == y.image_size
        assert set(x.get_fields()) == set(y.get_fields())
        assert torch.equal(x.pred_classes, y.pred_classes)
        torch.testing.assert_close(x.scores, y.scores, rtol=0, atol=1e-6)
        assert torch.equal(x.pred_masks, y.pred_masks)
        assert torch.equal(x.pred_boxes.tensor, y.pred_boxes.tensor)


def without_image(predictions, index):
    """The predictions, of which one image has no candidate."""
    logits = [x.clone() for x in predictions.class_logits]
    for x in logits:
        x[index] = -50.0
    return predictions._replace(class_logits=logits)


def detect(model, predictions, max_detections=100):
    with torch.no_grad():
        return model.detect(predictions, torch.tensor(SIZES), max_detections)


def test_a_batch_is_read_once(model):
    predictions = predictions_of(model)
    found = fixed(model, predictions)
    assert detect(model, predictions).exact.all()
    assert min(map(len, found)) > 10
    assert_equal(found, unlimited(model, predictions))


@pytest.mark.parametrize("empty", [[0], [1, 2], [0, 1, 2]])
def test_images_without_detections(model, empty):
    predictions = predictions_of(model)
    for index in empty:
        predictions = without_image(predictions, index)
    found = fixed(model, predictions)
    assert [i for i, x in enumerate(found) if not len(x)] == empty
    assert_equal(found, unlimited(model, predictions))
    detections = detect(model, predictions)
    assert detections.exact.all() and not detections.num_detections[empty].any()
    for x in (detections.boxes, detections.scores, detections.classes, *detections.fields.values()):
        assert not x[empty].any()  # empty slots are zero


def test_more_candidates_than_are_decoded_fall_back_to_unlimited_shape(model):
    predictions = without_image(predictions_of(model), 1)
    model.test_max_candidates = 7
    assert detect(model, predictions).exact.tolist() == [False, True, False]
    assert_equal(fixed(model, predictions, limit=None), unlimited(model, predictions))


def test_left_out_candidates_that_score_too_little_change_nothing(solov2):
    """One candidate is sure, all others are far behind: what comes after the first seven cannot be first."""
    predictions = predictions_of(solov2)
    for x in predictions.class_logits:
        x.sub_(1.0)
    predictions.class_logits[0][:, 1, 4, 5] = 9.0
    solov2.test_score_thresh, solov2.test_max_candidates, solov2.test_max_detections = 0.01, 7, 1
    assert detect(solov2, predictions, 1).exact.all()
    assert not detect(solov2, predictions, 5).exact.any()
    assert_equal(fixed(solov2, predictions), unlimited(solov2, predictions))


def test_equal_scores_are_in_the_order_of_the_cells(model):
    predictions = predictions_of(model)
    for x in predictions.class_logits:
        x.fill_(1.0)
    model.test_max_candidates = 700  # of 675 pairs
    assert_equal(fixed(model, predictions), unlimited(model, predictions))


def test_slots_beyond_the_candidates_are_empty(model):
    predictions = predictions_of(model)
    model.test_max_detections = 1000
    detections = detect(model, predictions, 1000)
    assert detections.scores.shape == (3, 1000) and (detections.num_detections < 600).all()
    assert detections.filled().sum(dim=1).tolist() == detections.num_detections.tolist()
    assert not detections.boxes[~detections.filled()].any()
    assert_equal(fixed(model, predictions), unlimited(model, predictions))


def test_masks_of_the_slots(model):
    """They are those that the boxes enclose, at stride 4."""
    predictions = predictions_of(model)
    detections = detect(model, predictions)
    masks = model.mask_probabilities(detections, predictions)
    assert masks.shape == (3, 100, 24, 32) and masks.dtype == torch.float32
    filled = detections.filled()
    assert torch.equal(detections.boxes[filled], 4 * masks_to_boxes(masks[filled] > 0.5))


def test_large_masks_read_more(model, monkeypatch):
    outputs = [Output(x.size, {"mask_format": "rle"} if i == 0 else {}) for i, x in enumerate(OUTPUTS)]
    predictions = predictions_of(model)
    expected = unlimited(model, predictions)
    monkeypatch.setattr(slots, "MAX_MASK_BYTES", 100 * 70 * 128)
    found = fixed(model, predictions, outputs, limit=None)
    assert isinstance(found[0].pred_masks, RLEMasks)
    found[0].pred_masks = torch.stack(list(found[0].pred_masks))
    assert_equal(found, expected)


def test_masks_without_pixels_are_dropped(solov2):
    """Masks that lie in the padding have no pixel in the image."""
    model, predictions = solov2, predictions_of(solov2)
    sizes = [(96, 128), (8, 8), (96, 128)]
    with torch.no_grad(), cpu_as_gpu(1):
        found = detect_in_slots(model, predictions, sizes, OUTPUTS, torch.device("cpu"))
    results = model.inference(predictions, sizes)
    assert len(found[1]) < len(results[1])
    assert_equal(found, [model.postprocess(x, predictions, i, OUTPUTS[i].size) for i, x in enumerate(results)])


def test_the_model_chooses_by_the_device(model, monkeypatch):
    calls = []
    detect = type(model).detect
    monkeypatch.setattr(type(model), "detect", lambda *args: calls.append(1) or detect(*args))
    inputs = [{"image": torch.zeros(3, 64, 64)}]
    with torch.no_grad():
        model(inputs)
        assert not calls
        with avoiding_host_reads():
            model(inputs)
    assert calls == [1]


def test_what_has_no_fixed_shape_is_decoded_as_on_a_cpu(solov2):
    predictions = predictions_of(solov2)
    solov2.test_max_detections = -1
    assert not solov2.has_fixed_shapes
    solov2.test_max_detections = 100
    assert solov2.has_fixed_shapes
    solov2.test_nms = InstanceNMS("MaskNMS")
    assert not solov2.has_fixed_shapes
    with pytest.raises(ConfigError, match=r"NMS\.NAME MaskNMS has no fixed shape: to export, choose .*MatrixNMS"):
        detect(solov2, predictions)
    with avoiding_host_reads(), torch.no_grad():
        assert len(solov2([{"image": torch.zeros(3, 64, 64)}])) == 1


@pytest.mark.parametrize("name", GRIDS)
def test_a_gpu_never_waits_but_once(name):
    """On a GPU without values: no operator needs one, and no tensor is on the wrong device or copied with a wait."""
    with fake_gpu(original(name), limit=1) as (model, reads), torch.no_grad():
        predictions = model.predict(torch.zeros(3, 3, 96, 128, device="cuda"))
        found = detect_in_slots(model, predictions, SIZES, OUTPUTS, model.device)
        assert reads.reads == ["Tensor.tolist"]
        assert found[0].pred_masks.device.type == "cuda" and found[0].pred_masks.shape == (100, 200, 300)


class Detector(nn.Module):
    """The part of a model that is compiled and exported."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images, image_sizes):
        predictions = self.model.predict(images)
        found = self.model.detect(predictions, image_sizes, 20)
        return *found[:5], self.model.mask_probabilities(found, predictions)


def inputs_of(count, height, width):
    rng = torch.Generator().manual_seed(height)
    return torch.randn(count, 3, height, width, generator=rng), torch.tensor([[height, width - 5]] * count)


@pytest.mark.slow
@pytest.mark.parametrize("name", GRIDS)
def test_the_detector_is_one_graph(name):
    """Of one size: for any, as exports have it, tracing takes three times as long."""
    detector, inputs = Detector(with_three_levels(name)), inputs_of(2, 96, 128)
    with torch.no_grad():
        expected = detector(*inputs)
        compiled = torch.compile(detector, fullgraph=True, backend="eager", dynamic=False)(*inputs)
    assert expected[-1].any()
    for x, y in zip(compiled, expected, strict=True):
        torch.testing.assert_close(x, y)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Decoupled SOLO", "Decoupled SOLO Light"])
def test_the_detector_is_exported_for_all_sizes(name):
    """tests/export has SOLOv2 and SOLO."""
    detector = Detector(with_three_levels(name))
    n, h, w = torch.export.Dim("n", max=64), *(torch.export.Dim(x, min=3, max=60) for x in "hw")
    with torch.no_grad():
        program = torch.export.export(
            detector, inputs_of(2, 96, 128), dynamic_shapes=({0: n, 2: 32 * h, 3: 32 * w}, {0: n})
        )
        for node in program.graph.nodes:
            if node.target is torch.ops.aten.topk.default:
                assert isinstance(node.args[1], int) and node.args[1] <= 3840
        exported = program.module()
        for inputs in (inputs_of(1, 96, 128), inputs_of(3, 160, 96), inputs_of(2, 128, 192)):  # p6 is even and odd
            for x, y in zip(exported(*inputs), detector(*inputs), strict=True):
                torch.testing.assert_close(x, y)
