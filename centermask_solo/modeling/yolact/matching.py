"""The matching of YOLACT's anchors with ground-truth objects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ...ops.boxes import pairwise_intersections, pairwise_iou
from ...ops.chunks import rows_per_chunk
from ...ops.topk import stable_topk

NEUTRAL = -1  # label of an anchor that the class loss ignores
FIRST_CHOICES = 32  # anchors that each object is at first ranked for; enough unless hundreds of objects share them


class Objects(NamedTuple):
    """The ground truth of one image; all boxes in fractions of the input.

    Attributes:
        boxes: (M, 4) float, x0 y0 x1 y1.
        classes: (M,) int64, 0..K-1.
        crowd_boxes: (number of crowds, 4) float.
    """

    boxes: Tensor
    classes: Tensor
    crowd_boxes: Tensor


class Matches(NamedTuple):
    """The match of each anchor of an image.

    Attributes:
        instances: (R,) int64; object of a positive anchor, undefined elsewhere.
        labels: (R,) int64; index into the class logits: class + 1 of a positive anchor, 0 for background, or
            ``NEUTRAL``.
    """

    instances: Tensor
    labels: Tensor


def match_anchors(
    anchors: Tensor, objects: Objects, *, positive_iou: float, negative_iou: float, crowd_ioa: float
) -> Matches:
    """Match each anchor with the object that it overlaps most, if by enough, or with the object that claims it.

    Each object claims one anchor by :func:`assign_one_to_one`, whatever their overlap, unless its width or height is 0.

    Args:
        anchors: (R, 4) float, in the frame of the objects.
        objects: Objects of the image.
        positive_iou: Minimum overlap of a positive anchor, inclusive.
        negative_iou: Anchors with less overlap are background; those between the two thresholds are neutral.
        crowd_ioa: Background anchors with a larger share inside a crowd are neutral.

    Source: YOLACT's published code of August 2019 and later.
    Differs: an object without extent claims no anchor, because the logarithm of its size would make the loss infinite.
    """
    num_anchors, num_objects = len(anchors), len(objects.boxes)
    best_iou = anchors.new_full((num_anchors,), -1.0)
    best_object = torch.zeros(num_anchors, dtype=torch.int64, device=anchors.device)
    has_extent = (objects.boxes[:, 2:] > objects.boxes[:, :2]).all(dim=1) & objects.boxes.isfinite().all(dim=1)

    # The best object of each anchor, a chunk of objects at a time.
    for start, ious in _overlaps(objects.boxes, has_extent, anchors):
        highest, rows = ious.max(dim=0)
        rows = torch.where(ious == highest, torch.arange(len(ious), device=ious.device)[:, None], num_objects).amin(0)
        best_object = torch.where(highest > best_iou, rows + start, best_object)  # the first of equal objects
        best_iou = torch.maximum(best_iou, highest)

    # One anchor for each object, which overrides the best object of that anchor.
    if num_objects:
        chosen = _claim_anchors(objects.boxes, has_extent, anchors)
        taken = (chosen >= 0).nonzero()[:, 0]
        best_object[chosen[taken]] = taken
        best_iou[chosen[taken]] = 2.0

    # Labels: positive, neutral or background.
    positive = best_iou >= positive_iou
    neutral = (best_iou >= negative_iou) & ~positive
    if len(objects.crowd_boxes):
        neutral |= ~positive & (_share_inside(anchors, objects.crowd_boxes) > crowd_ioa)
    labels = objects.classes[best_object] + 1 if num_objects else torch.zeros_like(best_object)
    return Matches(best_object, torch.where(positive, labels, torch.where(neutral, NEUTRAL, 0)))


def _overlaps(boxes: Tensor, has_extent: Tensor, anchors: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield the first object of each chunk of objects, and the chunk's overlaps with all anchors, (m, R) float."""
    step = rows_per_chunk(8 * len(anchors))  # ranks are int64
    for start in range(0, len(boxes), step):
        ious = pairwise_iou(boxes[start : start + step], anchors)
        yield start, torch.where(has_extent[start : start + step, None], ious, 0.0)


def _claim_anchors(boxes: Tensor, has_extent: Tensor, anchors: Tensor) -> Tensor:
    """Return the anchor that each object claims, (M,) int64; -1 for none, because it has no extent or all are taken.

    An object can at worst need its M-th choice, but M x M choices would be too many for thousands of objects: a few are
    ranked at first, and more of them only if an object has used up its own.
    """
    most = min(len(boxes), len(anchors))
    num_choices = min(FIRST_CHOICES, most)
    while True:
        ranked = [stable_topk(ious, num_choices) for _, ious in _overlaps(boxes, has_extent, anchors)]
        top_ious, top_anchors = (torch.cat(x) for x in zip(*ranked, strict=True))
        chosen = assign_one_to_one(top_ious, top_anchors, has_extent)
        if num_choices == most or not bool(((chosen < 0) & has_extent).any()):
            return chosen
        num_choices = min(4 * num_choices, most)


def assign_one_to_one(top_ious: Tensor, top_anchors: Tensor, takes_part: Tensor) -> Tensor:
    """Return the anchor that each object claims, (M,) int64 on the given device; -1 for none of its choices.

    The result is that of repeatedly taking the pair of a free object and a free anchor with the highest overlap (ties
    by object, then by anchor). Because objects and anchors rank each other by the same number, this is the unique
    stable matching, which proposals find for all objects together: every object points to its best anchor, the best of
    those that point to an anchor stays, and the others move on to their next best. A few rounds suffice.

    Args:
        top_ious: (M, k) float, the k highest overlaps of each object, descending. The result is complete if no object
            that takes part is without an anchor, or if k is M or the number of anchors.
        top_anchors: (M, k) int64, their anchors.
        takes_part: (M,) bool.
    """
    # A few numbers per object and a synchronization per round: on the host.
    ious, anchors, active = top_ious.cpu(), top_anchors.cpu(), takes_part.cpu()
    num_objects, num_choices = ious.shape
    objects = torch.arange(num_objects)
    choice = torch.zeros(num_objects, dtype=torch.int64)
    num_anchors = int(anchors.max()) + 1
    while True:
        at = choice.clamp(max=num_choices - 1)
        active = active & (choice < num_choices)
        pointed = anchors[objects, at]
        keys = (ious[objects, at].contiguous().view(torch.int32).long() << 32) + (num_objects - objects)
        best = torch.zeros(num_anchors, dtype=torch.int64)
        best.scatter_reduce_(0, pointed, torch.where(active, keys, 0), "amax")
        lost = active & (keys < best[pointed])
        if not bool(lost.any()):
            return torch.where(active, pointed, -1).to(top_anchors.device)
        choice += lost


def _share_inside(anchors: Tensor, crowd_boxes: Tensor) -> Tensor:
    """Return the largest share of each anchor's area that lies inside one of the crowds, (R,) float."""
    areas = (anchors[:, 2:] - anchors[:, :2]).prod(dim=1)
    return (pairwise_intersections(crowd_boxes, anchors) / areas).amax(dim=0)
