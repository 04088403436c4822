"""YOLACT's decoding at fixed shape: the same detections as without limits, no wait for the host, exportable."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from centermask_solo.modeling.slots import Output, detect_in_slots
from centermask_solo.modeling.yolact.decode import mask_probabilities
from centermask_solo.utils.errors import ConfigError
from tests.host_reads import HostReads, cpu_as_gpu, fake_gpu
from tests.modeling.yolact.test_inference import NODE, detect, images, model_for_inference
from tests.modeling.yolact.tiny import tiny_plus_cfg

AGNOSTIC = (NODE + "NMS.CLASS_AGNOSTIC", True, NODE + "PRE_NMS_TOPK_TEST", 60)
SIZES = [(50, 90), (130, 128), (1, 1)]


def plus_model():
    torch.manual_seed(0)
    return build_model(tiny_plus_cfg("MODEL.PIXEL_STD", [600.0] * 3)).eval()


def predict(model, count=2, background=0.0):
    """The predictions of random images; the higher ``background``, the fewer candidates."""
    with torch.no_grad():
        predictions = model.predict(model.preprocess_image(images(*SIZES[:count])).tensor)
    predictions.class_logits[..., 0] += background
    return predictions, [model.input_size] * count


def detect_slots(model, predictions, sizes, max_detections):
    with HostReads(limit=0):
        found = model.detect(predictions, torch.tensor(sizes), max_detections)
        return found, model.mask_probabilities(found, predictions)


@pytest.mark.parametrize("background", [0.0, 5.0, 1e6])
@pytest.mark.parametrize("max_detections", [7, 100, 150])
@pytest.mark.parametrize(
    "overrides",
    [(), AGNOSTIC, ("TEST.DETECTIONS_PER_IMAGE", -1), (NODE + "NMS.TOPK", 2), (NODE + "NMS.CLASS_SCORE_THRESH", 0.2)],
    ids=["published", "agnostic", "unlimited", "topk", "class_score"],
)
def test_slots_hold_the_detections_of_unlimited_shape(overrides, max_detections, background):
    model = model_for_inference(*overrides)
    predictions, sizes = predict(model, background=background)
    got, masks = detect_slots(model, predictions, sizes, max_detections)
    assert (got.boxes.shape, masks.shape) == ((2, max_detections, 4), (2, max_detections, 32, 32))
    for i, expected in enumerate(model.inference(predictions, sizes)):
        assert (len(expected) == 0) == (background == 1e6)
        assert got.exact[i] == (len(expected) <= max_detections)
        expected = expected[:max_detections]
        n = len(expected)
        assert got.num_detections[i] == n
        assert torch.equal(got.scores[i, :n], expected.scores)
        assert torch.equal(got.classes[i, :n], expected.pred_classes)
        assert torch.equal(got.boxes[i, :n], expected.pred_boxes.tensor)
        assert torch.equal(got.fields["mask_coefficients"][i, :n], expected.mask_coefficients)
        own = mask_probabilities(
            expected.mask_coefficients, predictions.prototypes[i], expected.pred_boxes.tensor / model.input_size[0]
        )
        torch.testing.assert_close(masks[i, :n], own)
        for free in (got.boxes, got.scores, got.classes, got.fields["mask_coefficients"], masks):
            assert not free[i, n:].any()


def test_slots_have_mask_scores():
    model = plus_model()
    with torch.no_grad():
        model.mask_iou_head.predictor.bias += 0.5
    predictions, sizes = predict(model)
    got, _ = detect_slots(model, predictions, sizes, 120)
    for i, expected in enumerate(model.inference(predictions, sizes)):
        assert torch.equal(got.scores[i, : len(expected)], expected.scores)
        torch.testing.assert_close(got.fields["mask_scores"][i, : len(expected)], expected.mask_scores)
        assert (expected.mask_scores != expected.scores).any()
        assert not got.fields["mask_scores"][i, len(expected) :].any()


@pytest.mark.parametrize("value", [1e8, torch.inf, torch.nan])
def test_what_is_no_candidate_takes_no_slot(value):
    model = model_for_inference()
    predictions, sizes = predict(model)
    predictions.box_deltas[0, ::2, :2] = value
    predictions.class_logits[1, ::2] = value
    got, masks = detect_slots(model, predictions, sizes, 100)
    assert masks.isfinite().all()
    for i, expected in enumerate(model.inference(predictions, sizes)):
        assert torch.equal(got.boxes[i, : len(expected)], expected.pred_boxes.tensor)
        assert got.num_detections[i] == len(expected) > 0


@pytest.mark.parametrize("make", [model_for_inference, plus_model], ids=["YOLACT", "YOLACT++"])
def test_a_batch_reads_once_on_the_host(make):
    model, inputs = make(), images(*SIZES)
    inputs[1] |= {"height": 333, "width": 77}
    expected = detect(model, inputs)
    with cpu_as_gpu(limit=1):
        found = detect(model, inputs)
    for a, b in zip(found, expected, strict=True):
        assert a.image_size == b.image_size
        assert len(a) == len(b) > 0
        for name in ("scores", "pred_classes", "pred_masks"):
            assert torch.equal(a.get(name), b.get(name))
        assert torch.equal(a.pred_boxes.tensor, b.pred_boxes.tensor)
        assert a.has("mask_scores") == b.has("mask_scores")


def test_nothing_is_found_without_further_reads():
    model, inputs = model_for_inference(), images(*SIZES)
    with torch.no_grad():
        model.head.class_logits.bias.view(3, -1)[:, 0] = 1e6
        with cpu_as_gpu(limit=1):
            found = detect(model, inputs)
    assert [x.pred_masks.shape for x in found] == [(0, *size) for size in SIZES]


@pytest.mark.parametrize("make", [model_for_inference, plus_model], ids=["YOLACT", "YOLACT++"])
def test_a_gpu_waits_once(make):
    with fake_gpu(make(), limit=1) as (model, reads), torch.no_grad():
        predictions = model.predict(torch.zeros(2, 3, *model.input_size, device="cuda"))
        outputs = [Output((60, 80), {}), Output((333, 77), {"score_threshold": 0.1})]
        detect_in_slots(model, predictions, [model.input_size] * 2, outputs, torch.device("cuda"))
        assert len(reads.reads) == 1


def test_other_rules_run_without_slots_and_are_not_exported():
    model = model_for_inference(NODE + "NMS.NAME", "TraditionalNMS")
    inputs = images(*SIZES[:1])
    with cpu_as_gpu():
        assert len(detect(model, inputs)[0]) == len(detect(model, inputs)[0]) > 0
    with pytest.raises(ConfigError, match="TraditionalNMS has no fixed shape"):
        detect_slots(model, *predict(model), 100)


class Detector(nn.Module):
    """What is exported: from normalized images to detections with masks."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixels, image_sizes):
        predictions = self.model.predict(pixels)
        found = self.model.detect(predictions, image_sizes, 40)
        return *found[:5], found.fields, self.model.mask_probabilities(found, predictions)


@pytest.mark.parametrize("how", [pytest.param("compile", marks=pytest.mark.slow), "export"])
def test_prediction_and_detection_are_one_graph_for_any_batch(how):
    model = model_for_inference()
    if how == "compile":
        graph = torch.compile(Detector(model), fullgraph=True, backend="eager")
    else:
        batch = {0: torch.export.Dim("batch")}
        example = (torch.randn(2, 3, 128, 128), torch.full((2, 2), 128))
        shapes = {"pixels": batch, "image_sizes": batch}
        graph = torch.export.export(Detector(model), example, dynamic_shapes=shapes).module()
    for count in (2,) if how == "compile" else (1, 3):
        inputs = (model.preprocess_image(images(*SIZES[:count])).tensor, torch.full((count, 2), 128))
        with torch.no_grad():
            *got, got_fields, got_masks = graph(*inputs)
            *expected, fields, masks = Detector(model)(*inputs)
        assert expected[3].tolist() == [40] * count
        for a, b in zip([*got, *got_fields.values(), got_masks], [*expected, *fields.values(), masks], strict=True):
            assert torch.equal(a, b)
