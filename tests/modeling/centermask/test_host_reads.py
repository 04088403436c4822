"""Training lets a GPU wait for its host a fixed number of times, and computes what it does on a CPU."""

from __future__ import annotations

import functools

import pytest
import torch
from detectron2.modeling.matcher import Matcher
from detectron2.structures import Boxes, pairwise_iou
from detectron2.utils.events import EventStorage

from centermask_solo.modeling.centermask.matching import match_in_chunks
from centermask_solo.modeling.instance_nms import InstanceNMS
from centermask_solo.ops.fixed_nms import FIXPOINT
from tests.host_reads import HostReads, cpu_as_gpu, fake_gpu
from tests.modeling.centermask.helpers import BOXES, make_gt, make_input, make_model

SIZES = [(96, 128), (80, 100), (96, 128)]
SEM_SEG = ("MODEL.FCOS.LOSS.SEM_SEG_WEIGHT", 1.0)


@functools.cache
def model_of(*overrides):
    model = make_model(*overrides).train()
    torch.nn.init.normal_(model.roi_heads.mask_head.predictor.weight, std=0.5)  # otherwise all masks start out alike
    return model


def inputs_of(masks, *boxes):
    pairs = zip(boxes, SIZES, strict=False)
    return [make_input(make_gt(b, size=size, masks=masks), size, seed=i) for i, (b, size) in enumerate(pairs)]


def results_of(model, inputs):
    """Losses, gradients and what is logged; of a model that samples the same each time."""
    torch.manual_seed(0)
    model.zero_grad()
    with EventStorage() as storage:
        losses = model(inputs)
        sum(losses.values()).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return losses, gradients, {name: value for name, (value, _) in storage.latest().items()}


@pytest.mark.parametrize("masks", ["polygon", "bitmask"])
@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("MODEL.ROI_MASK_HEAD.LEVEL_ASSIGNMENT", "area"),
        ("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 12, "MODEL.FCOS.NMS.NAME", "FastNMS"),
        SEM_SEG,
        ("MODEL.META_ARCHITECTURE", "GeneralizedRCNN"),
    ],
    ids=["", "levels by area", "few", "semantic loss", "GeneralizedRCNN"],
)
def test_a_step_is_that_of_a_cpu(overrides, masks):
    model, inputs = model_of(*overrides), inputs_of(masks, BOXES, BOXES[:2] * 4, [])
    expected = results_of(model, inputs)
    with cpu_as_gpu():
        found = results_of(model, inputs)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert expected[0]["loss_mask"] > 0 and expected[2]["roi_head/num_fg_samples"] > 1


@pytest.mark.parametrize("boxes", [[BOXES], [BOXES, BOXES[:2] * 4, []], [BOXES, BOXES, BOXES]])
def test_reads_of_polygons(boxes):
    """Classes, proposals, matches, objects of the RoIs, crossings, accuracy, and FCOS's positives."""
    model, inputs = model_of(), inputs_of("polygon", *boxes)
    images = model.preprocess_image(inputs)
    with EventStorage(), cpu_as_gpu() as reads:
        predictions = model.predict(images.tensor)
        model.losses(predictions, model.label(predictions, [x["instances"] for x in inputs]))
    assert reads.reads == ["Tensor.tolist"] * 6 + ["aten::nonzero"]


@pytest.mark.parametrize(("masks", "count"), [("polygon", 1), ("polygon", 3), ("bitmask", 1), ("bitmask", 3)])
def test_no_tensor_is_on_the_wrong_device(masks, count):
    """On a GPU without values, whose reads are all 1: an object with the index 1 for each of 101 and more RoIs."""
    inputs = inputs_of(masks, *[BOXES] * count)
    gt_instances = [x["instances"] for x in inputs]
    with fake_gpu(model_of()) as (model, reads), EventStorage():
        predictions = model.predict(torch.zeros(count, 3, 96, 128, device="cuda"))
        targets = model.label(predictions, gt_instances)
        outputs = model.roi_heads.predict_training(predictions.features, targets.roi)
        losses = model.roi_heads.losses(outputs, targets.roi)
    assert reads.reads == ["Tensor.tolist"] * (5 if masks == "polygon" else 4)
    assert {x.device.type for x in (*losses.values(), *targets.fcos, *targets.roi.masks)} == {"cuda"}
    assert targets.roi.rois[0].proposal_boxes.device.type == targets.roi.rois[0].gt_classes.device.type == "cuda"


@pytest.fixture
def generator():
    return model_of().proposal_generator


@pytest.fixture
def predictions(generator):
    images = torch.randn(3, 3, 96, 128, generator=torch.Generator().manual_seed(0)) * 50
    with torch.no_grad():
        found = model_of().predict(images).fcos
    for x in found.class_logits:
        x[1] = -50.0
    return found


def assert_same_proposals(found, expected):
    for x, y, size in zip(found, expected, SIZES, strict=True):
        assert x.image_size == y.image_size == size
        assert torch.equal(x.proposal_boxes.tensor, y.proposal_boxes.tensor)
        torch.testing.assert_close(x.objectness_logits, y.objectness_logits, rtol=0, atol=1e-5)


def test_proposals_are_read_once(generator, predictions):
    expected = generator.propose(predictions, SIZES)
    with cpu_as_gpu(limit=1):
        found = generator.propose(predictions, SIZES)
    assert_same_proposals(found, expected)
    assert [len(x) for x in found] == [100, 0, 100]


@pytest.mark.parametrize("cause", ["limit", "rule", "not exact"])
def test_proposals_without_fixed_shape_are_those_of_a_cpu(generator, predictions, cause, monkeypatch):
    if cause == "limit":
        monkeypatch.setattr(generator, "train_limits", generator.train_limits._replace(post_nms_topk=-1))
    elif cause == "rule":
        monkeypatch.setattr(generator, "nms", InstanceNMS("BatchedNMS"))
        monkeypatch.setattr("centermask_solo.modeling.fixed_nms.FIXED_RULES", {})
    else:
        monkeypatch.setattr(FIXPOINT.function, "__defaults__", (1,))  # one step does not converge
    expected = generator.propose(predictions, SIZES)
    with cpu_as_gpu() as reads:
        found = generator.propose(predictions, SIZES)
    assert "torchvision::nms" in reads.reads
    assert_same_proposals(found, expected)


@pytest.mark.parametrize("num_objects", [0, 7])
@pytest.mark.parametrize(("thresholds", "labels"), [([0.5], [0, 1]), ([0.2, 0.4], [0, -1, 1]), ([0.3], [-1, 1])])
def test_matches_are_those_of_detectron2(thresholds, labels, num_objects):
    rng = torch.Generator().manual_seed(0)
    corners = torch.rand(400, 2, generator=rng) * 60
    boxes = Boxes(torch.cat([corners, corners + 5 + torch.rand(400, 2, generator=rng) * 60], dim=1))
    matcher, objects = Matcher(thresholds, labels), boxes[:num_objects]
    index, found = matcher(pairwise_iou(objects, boxes))
    with HostReads(0):
        own_index, own_found = match_in_chunks(matcher, objects, boxes)
    assert torch.equal(own_index, index) and torch.equal(own_found, found) and own_found.dtype == found.dtype
    assert set(found.tolist()) == (set(labels) if num_objects else {labels[0]})
