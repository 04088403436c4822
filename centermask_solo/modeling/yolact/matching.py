"""The matching of YOLACT's anchors with ground-truth objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...ops.boxes import pairwise_intersections, pairwise_iou
from ...ops.chunks import rows_per_chunk
from ...ops.topk import stable_topk

NEUTRAL = -1  # label of an anchor that the class loss ignores
FIRST_EFFORT = 16  # choices and rounds of the first try; enough unless many objects share their anchors


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
    """The match of each anchor of N images.

    Attributes:
        instances: (N, R) int64; object of a positive anchor, counted through the batch; undefined elsewhere.
        labels: (N, R) int64; index into the class logits: class + 1 of a positive anchor, 0 for background, or
            ``NEUTRAL``.
        is_complete: () bool; whether ``effort`` was enough. Otherwise some objects claim a wrong anchor, or none.
    """

    instances: Tensor
    labels: Tensor
    is_complete: Tensor


def match_anchors(
    anchors: Tensor,
    objects: Sequence[Objects],
    *,
    positive_iou: float,
    negative_iou: float,
    crowd_ioa: float,
    effort: int = FIRST_EFFORT,
) -> Matches:
    """Match each anchor with the object that it overlaps most, if by enough, or with the object that claims it.

    Each object claims one anchor by :func:`assign_one_to_one`, whatever their overlap, unless its width or height is 0.
    Nothing is read on the host.

    Args:
        anchors: (R, 4) float, in the frame of the objects.
        objects: Objects of each image.
        positive_iou: Minimum overlap of a positive anchor, inclusive.
        negative_iou: Anchors with less overlap are background; those between the two thresholds are neutral.
        crowd_ioa: Background anchors with a larger share inside a crowd are neutral.
        effort: Number of anchors that each object is ranked for, and of rounds in which objects claim them. A few are
            enough unless hundreds of objects share them; M x M would be too many for thousands of objects.

    Source: YOLACT's published code of August 2019 and later.
    Differs: an object without extent claims no anchor, because the logarithm of its size would make the loss infinite.
    """
    numbers = [len(x.boxes) for x in objects]
    has_extent = [(x.boxes[:, 2:] > x.boxes[:, :2]).all(1) & x.boxes.isfinite().all(1) for x in objects]
    best_iou, best_object = (
        torch.stack(x) for x in zip(*map(partial(_best_objects, anchors), objects, has_extent), strict=True)
    )

    # One anchor for each object, which overrides the best object of that anchor.
    choices = [_rank_anchors(x.boxes, y, anchors, effort) for x, y in zip(objects, has_extent, strict=True)]
    chosen, is_complete = assign_one_to_one(choices, len(anchors), effort)
    own = torch.cat([torch.arange(n, device=anchors.device) for n in numbers])
    best_object = _put(best_object, chosen, own)
    best_iou = _put(best_iou, chosen, torch.full_like(own, 2, dtype=best_iou.dtype))

    # Labels: positive, neutral or background.
    positive = best_iou >= positive_iou
    neutral = (best_iou >= negative_iou) & ~positive
    inside = torch.stack([_share_inside(anchors, x.crowd_boxes) for x in objects])
    neutral |= ~positive & (inside > crowd_ioa)
    labels = torch.stack([x.classes[i] + 1 if len(x.classes) else i for x, i in zip(objects, best_object, strict=True)])
    labels = torch.where(positive, labels, torch.where(neutral, NEUTRAL, 0))
    first = [sum(numbers[:i]) for i in range(len(numbers))]
    return Matches(torch.stack([x + n for x, n in zip(best_object, first, strict=True)]), labels, is_complete)


def _best_objects(anchors: Tensor, objects: Objects, has_extent: Tensor) -> tuple[Tensor, Tensor]:
    """Return the highest overlap of each anchor with an object, (R,), and that object, (R,); -1 and 0 without any."""
    best_iou = anchors.new_full((len(anchors),), -1.0)
    best_object = torch.zeros(len(anchors), dtype=torch.int64, device=anchors.device)
    for start, ious in _overlaps(objects.boxes, has_extent, anchors):
        highest = ious.amax(dim=0)
        rows = torch.arange(len(ious), device=ious.device)[:, None]
        rows = torch.where(ious == highest, rows, len(objects.boxes)).amin(0)
        best_object = torch.where(highest > best_iou, rows + start, best_object)  # the first of equal objects
        best_iou = torch.maximum(best_iou, highest)
    return best_iou, best_object


def _overlaps(boxes: Tensor, has_extent: Tensor, anchors: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield the first object of each chunk of objects, and the chunk's overlaps with all anchors, (m, R) float."""
    step = rows_per_chunk(8 * len(anchors))  # keys of ranks are float64
    for start in range(0, len(boxes), step):
        ious = pairwise_iou(boxes[start : start + step], anchors)
        yield start, torch.where(has_extent[start : start + step, None], ious, 0.0)


class Choices(NamedTuple):
    """The anchors that M objects of an image overlap most.

    Attributes:
        ious: (M, k) float32, descending.
        anchors: (M, k) int64.
        takes_part: (M,) bool; whether an object claims an anchor.
        are_all: Whether no object can need another choice.
    """

    ious: Tensor
    anchors: Tensor
    takes_part: Tensor
    are_all: bool


def _rank_anchors(boxes: Tensor, has_extent: Tensor, anchors: Tensor, effort: int) -> Choices:
    """Return at most ``effort`` choices of each object; at worst one needs as many as there are objects."""
    most = min(len(boxes), len(anchors))
    k = min(effort, most)
    ranked = [stable_topk(ious, k) for _, ious in _overlaps(boxes, has_extent, anchors)]
    ranked.append((boxes.new_zeros(0, k), has_extent.new_zeros(0, k, dtype=torch.int64)))  # if there are no objects
    ious, rows = (torch.cat(x) for x in zip(*ranked, strict=True))
    return Choices(ious.float(), rows, has_extent, k == most)


def assign_one_to_one(images: Sequence[Choices], num_anchors: int, rounds: int) -> tuple[Tensor, Tensor]:
    """Return the anchor that each object claims, and whether there were enough choices and rounds.

    The result is that of repeatedly taking the pair of a free object and a free anchor with the highest overlap (ties
    by object, then by anchor). Because objects and anchors rank each other by the same number, this is the unique
    stable matching, which proposals find for all objects together: every object points to its best anchor, the best of
    those that point to an anchor stays, and the others move on to their next best. A few rounds suffice.

    Args:
        images: Choices of the objects of each image; M objects in total.
        num_anchors: R.
        rounds: Number of rounds.

    Returns:
        (M,) int64, image * R + anchor, or -1 for none; and () bool.
    """
    k = max(x.ious.shape[1] for x in images)
    numbers = torch.cat([torch.full_like(x.takes_part, x.ious.shape[1], dtype=torch.int64) for x in images])
    more = torch.cat([torch.full_like(x.takes_part, not x.are_all) for x in images])
    ious = torch.cat([F.pad(x.ious, (0, k - x.ious.shape[1])) for x in images])
    anchors = torch.cat([F.pad(x.anchors, (0, k - x.ious.shape[1])) + i * num_anchors for i, x in enumerate(images)])
    takes_part = torch.cat([x.takes_part for x in images])
    if k == 0:
        return torch.full_like(numbers, -1), torch.ones((), dtype=torch.bool, device=numbers.device)
    ranks = torch.arange(len(numbers), 0, -1, device=numbers.device)[:, None]  # of equal overlaps the first object's
    keys = (ious.contiguous().view(torch.int32).long() << 32) + ranks
    choice, best = torch.zeros_like(numbers), numbers.new_zeros(len(images) * num_anchors)
    for _ in range(rounds):
        active = takes_part & (choice < numbers)
        at = choice.clamp(max=k - 1)[:, None]
        pointed = anchors.gather(1, at)[:, 0]
        own = torch.where(active, keys.gather(1, at)[:, 0], 0)
        best.scatter_(0, pointed, 0).scatter_reduce_(0, pointed, own, "amax")
        lost = active & (own < best[pointed])
        choice = choice + lost
    needs_more = lost | (takes_part & ~active & more)
    return torch.where(active, pointed, -1), ~needs_more.any()


def _put(values: Tensor, places: Tensor, news: Tensor) -> Tensor:
    """Return ``values`` with others at flat ``places`` (M,) int64, each at most once; -1 for none."""
    extended = torch.cat([values.flatten(), news.new_zeros(1)])
    at = torch.where(places < 0, values.numel(), places)
    return extended.scatter(0, at, news)[:-1].view_as(values)


def _share_inside(anchors: Tensor, crowd_boxes: Tensor) -> Tensor:
    """Return the largest share of each anchor's area that lies inside one of the crowds, (R,) float; 0 without any."""
    if len(crowd_boxes) == 0:
        return anchors.new_zeros(len(anchors))
    areas = (anchors[:, 2:] - anchors[:, :2]).prod(dim=1)
    return (pairwise_intersections(crowd_boxes, anchors) / areas).amax(dim=0)
