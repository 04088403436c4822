"""Images of known objects, and what detections in them must be, for the tests of all systems."""

from __future__ import annotations

import torch
from detectron2.structures import Boxes, pairwise_iou

from tests.modeling.inputs import empty_instances, input_of, instances_of, rectangles

HEIGHT, WIDTH = SIZE = (96, 128)
CORNERS = [(8, 8, 56, 60), (40, 70, 90, 120)]  # y0, x0, y1, x1
EMPTY = empty_instances(64, 64)
ONE_PIXEL = instances_of(rectangles(64, 64, (7, 9, 8, 10)), [2])
HAIR = instances_of(rectangles(64, 64, (30, 0, 31, 64)), [1])
WHOLE_IMAGE = instances_of(rectangles(50, 70, (0, 0, 50, 70)), [0])


def two_objects(classes=(0, 2)):
    return input_of(instances_of(rectangles(HEIGHT, WIDTH, *CORNERS), list(classes)))


def inference_inputs(*inputs):
    return [{"image": x["image"].clone()} for x in inputs]


def mask_ious(a, b):
    a, b = a.flatten(1).float(), b.flatten(1).float()
    both = a @ b.T
    return both / (a.sum(1)[:, None] + b.sum(1) - both)


def overlaps(a, b):
    """The IoU of each detection of ``a`` with each object or detection of ``b``: of their masks, if ``a`` has any."""
    if not a.has("pred_masks"):
        return pairwise_iou(a.pred_boxes, b.gt_boxes if b.has("gt_boxes") else b.pred_boxes)
    return mask_ious(a.pred_masks, b.gt_masks.tensor if b.has("gt_masks") else b.pred_masks)


def assert_well_formed(found, size, num_classes=3):
    """Assert what evaluators, the Visualizer and users rely on."""
    count, (height, width) = len(found), size
    assert found.image_size == size
    assert {"pred_boxes", "scores", "pred_classes"} <= set(found.get_fields())
    assert isinstance(found.pred_boxes, Boxes)
    boxes = found.pred_boxes.tensor
    assert (boxes.dtype, boxes.shape) == (torch.float32, (count, 4))
    assert (found.scores.dtype, found.scores.shape) == (torch.float32, (count,))
    assert (found.pred_classes.dtype, found.pred_classes.shape) == (torch.int64, (count,))
    if found.has("pred_masks"):  # `detect` knows who has
        assert (found.pred_masks.dtype, found.pred_masks.shape) == (torch.bool, (count, height, width))
    assert (boxes >= 0).all() and (boxes <= torch.tensor([width, height, width, height])).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert ((found.pred_classes >= 0) & (found.pred_classes < num_classes)).all()
    assert found.scores.isfinite().all() and (found.scores.diff() <= 0).all()
    assert not found.has("mask_scores") or found.mask_scores.isfinite().all()


def assert_finds(found, x):
    """Assert that the best detections are the objects of ``x``, each with an IoU above 60 %."""
    gt = x["instances"]
    best = found[: len(gt)]
    ious, objects = overlaps(best, gt).max(1)
    assert sorted(objects.tolist()) == list(range(len(gt)))
    assert torch.equal(best.pred_classes, gt.gt_classes[objects])
    assert ious.min() > 0.6
    assert best.scores.min() > 0.4


def assert_same(a, b, scores=1e-4, boxes=0.05, ious=0.99):
    """Assert the same detections in the same order, up to tolerances."""
    assert a.image_size == b.image_size
    assert torch.equal(a.pred_classes, b.pred_classes)
    torch.testing.assert_close(a.scores, b.scores, rtol=0, atol=scores)
    torch.testing.assert_close(a.pred_boxes.tensor, b.pred_boxes.tensor, rtol=0, atol=boxes)
    if a.has("mask_scores"):
        torch.testing.assert_close(a.mask_scores, b.mask_scores, rtol=0, atol=scores)
    assert a.has("pred_masks") == b.has("pred_masks")
    if not a.has("pred_masks"):
        return
    drawn = a.pred_masks.flatten(1).any(1) | b.pred_masks.flatten(1).any(1)
    assert (mask_ious(a.pred_masks[drawn], b.pred_masks[drawn]).diagonal() >= ious).all()


def assert_same_segments(a, b):
    """Assert the same panoptic segments, and almost the same pixels."""
    (labels, found), (expected_labels, expected) = a["panoptic_seg"], b["panoptic_seg"]
    names = ("id", "isthing", "category_id")
    assert [[x[name] for name in names] for x in found] == [[x[name] for name in names] for x in expected]
    assert labels.dtype == expected_labels.dtype and (labels == expected_labels).float().mean() > 0.99
