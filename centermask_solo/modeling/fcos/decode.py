"""Decoding of FCOS's outputs into boxes: all images and levels at once, with two host synchronizations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...ops.boxes import level_locations
from ...ops.levels import flatten_levels

MANY_PAIRS = 2**20  # (location, class) pairs of a level above which those that cannot be kept are sorted out first
BLOCK = 16  # classes whose best one stands for all of them there
LARGEST_DISTANCE = 1e30  # strides; times a stride it is finite, as the box of a candidate must be


class Candidates(NamedTuple):
    """The boxes of one image that enter NMS, best first."""

    scores: Tensor  # (M,) float32, sqrt(class probability x centerness)
    pred_classes: Tensor  # (M,) int64
    boxes: Tensor  # (M, 4) float32 x0, y0, x1, y1 in input pixels, not clipped
    locations: Tensor  # (M, 2) float32, the (x, y) that predicted each, input pixels


class _Hits(NamedTuple):
    """Every (location, class) pair of a batch that may pass the threshold, one row each."""

    group: Tensor  # image x L + level
    image: Tensor
    location: Tensor  # row among all locations of an image
    classes: Tensor
    probability: Tensor  # class probability
    quality: Tensor  # class probability x centerness, the ranking key


@torch.no_grad()
def decode_batch(
    class_logits: Sequence[Tensor],
    ltrb: Sequence[Tensor],
    centerness_logits: Sequence[Tensor],
    *,
    strides: Sequence[int],
    score_thresh: float,
    thresh_with_centerness: bool,
    pre_nms_topk: int,
) -> list[Candidates]:
    """Return the candidate boxes of each image, best first, at most ``pre_nms_topk`` per level.

    Non-finite candidates are dropped. Everything is computed in float32.

    Args:
        class_logits: L x (N, K, Hi, Wi).
        ltrb: L x (N, 4, Hi, Wi), distances in strides.
        centerness_logits: L x (N, 1, Hi, Wi).
        strides: Stride of each level in input pixels.
        score_thresh: Class probability that a candidate must exceed.
        thresh_with_centerness: Compare class probability x centerness with the threshold instead.
        pre_nms_topk: Candidates kept per image and level, by class probability x centerness.

    Source: FCOS, as in CenterMask's published code.
    """
    # Compute boxes only for the pairs that may pass the threshold.
    num_images, sizes = len(class_logits[0]), [(x.shape[2], x.shape[3]) for x in class_logits]
    hits = _find_hits(class_logits, ltrb, centerness_logits, score_thresh, pre_nms_topk)
    points = torch.cat([level_locations(s, t, ltrb[0].device) for s, t in zip(sizes, strides, strict=True)])
    distances = flatten_levels([x.float() * t for x, t in zip(ltrb, strides, strict=True)])[hits.image, hits.location]
    xy = points[hits.location]
    boxes = torch.cat([xy - distances[:, :2], xy + distances[:, 2:]], dim=1)
    passing = hits.quality if thresh_with_centerness else hits.probability
    valid = (passing > score_thresh) & boxes.isfinite().all(dim=1) & hits.quality.isfinite()

    # Keep the top-k of each image and level, then sort each image.
    quality = torch.where(valid, hits.quality, -1.0)
    keep = valid & (_rank_in_group(quality, hits.group, num_images * len(sizes)) < pre_nms_topk)
    rows = _rows_per_image(keep, quality, hits.image, num_images)
    return [Candidates(quality[r].sqrt(), hits.classes[r], boxes[r], xy[r]) for r in rows]


def _rank_in_group(values: Tensor, group: Tensor, num_groups: int) -> Tensor:
    """Return the rank of each row within its group, from 0, by descending value: (M,) int64."""
    order = _sort_within(values, group)
    counts = _counts(group, torch.ones_like(group), num_groups)
    starts = counts.cumsum(0) - counts
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - starts[group[order]]
    return rank


def _rows_per_image(keep: Tensor, quality: Tensor, image: Tensor, num_images: int) -> list[Tensor]:
    """Return the rows to keep of each image, best first. Their number is the second and last synchronization."""
    order = _sort_within(torch.where(keep, quality, -1.0), image)
    sizes = torch.stack([_counts(image, keep.long(), num_images), _counts(image, torch.ones_like(image), num_images)])
    num_kept, num_all = sizes.tolist()
    return [rows[:n] for rows, n in zip(order.split(num_all), num_kept, strict=True)]


def _sort_within(values: Tensor, group: Tensor) -> Tensor:
    """Return the order that sorts by group, then by descending value; the sort is stable."""
    order = values.argsort(descending=True, stable=True)
    return order[group[order].argsort(stable=True)]


def _counts(group: Tensor, weight: Tensor, num_groups: int) -> Tensor:
    """Return the sum of ``weight`` (int64) of each group, without the synchronization of ``bincount``."""
    return torch.zeros(num_groups, dtype=torch.int64, device=group.device).scatter_add_(0, group, weight)


def _find_hits(
    class_logits: Sequence[Tensor],
    ltrb: Sequence[Tensor],
    centerness_logits: Sequence[Tensor],
    score_thresh: float,
    pre_nms_topk: int,
) -> _Hits:
    """Return the pairs whose class probability exceeds, or nearly exceeds, the threshold.

    Logits are compared with the threshold's logit, with a margin for rounding: the caller checks the probability
    itself. No probability is computed for the rest. The number of pairs is the first synchronization.

    Where a level has so many pairs that they would take much memory, those that cannot be among its ``pre_nms_topk``
    best are left out, too.
    """
    # Find the positions of all pairs in the batch, flattened in the order of level, class, cell.
    limit = _logit(score_thresh)
    limit = limit - 1e-4 - 0.01 * abs(limit) if math.isfinite(limit) else limit  # beyond half precision's rounding
    passes = []
    for values, distances, centerness in zip(class_logits, ltrb, centerness_logits, strict=True):
        level_passes = values > limit
        if values.numel() > MANY_PAIRS:
            level_passes &= values > _lowest_of_best(values, distances, centerness, pre_nms_topk)
        passes.append(level_passes.flatten(1))
    logits = torch.cat([x.flatten(1) for x in class_logits], dim=1)
    image, position = torch.cat(passes, dim=1).nonzero(as_tuple=True)
    num_classes = class_logits[0].shape[1]

    # Recover level, location and class from the position.
    level, location, classes = (torch.zeros_like(position) for _ in range(3))
    first_value = first_cell = 0
    for i, values in enumerate(class_logits):
        cells = values.shape[2] * values.shape[3]
        here = position >= first_value
        offset = position - first_value
        level = torch.where(here, i, level)
        location = torch.where(here, first_cell + offset % cells, location)
        classes = torch.where(here, offset // cells, classes)
        first_value, first_cell = first_value + num_classes * cells, first_cell + cells

    probability = logits[image, position].float().sigmoid()
    centerness = flatten_levels(centerness_logits)[image, location, 0].float().sigmoid()
    group = image * len(class_logits) + level
    return _Hits(group, image, location, classes, probability, probability * centerness)


def _lowest_of_best(logits: Tensor, ltrb: Tensor, centerness_logits: Tensor, count: int) -> Tensor:
    """Return a class logit that the ``count`` best pairs of each image exceed, at each location: (N, 1, H, W) float32.

    Each of the ``count`` best blocks, of a location and :data:`BLOCK` classes, has a pair at least as good as the worst
    of these blocks. So no pair that is worse is among the ``count`` best pairs.

    Args:
        logits: (N, K, H, W), of one level.
        ltrb: (N, 4, H, W), distances in strides.
        centerness_logits: (N, 1, H, W).
        count: Number of pairs.
    """
    centerness = centerness_logits.float().sigmoid()
    blocks = torch.stack([x.amax(dim=1) for x in logits.split(BLOCK, dim=1)], dim=1).float().sigmoid()
    valid = (ltrb.abs() < LARGEST_DISTANCE).all(dim=1, keepdim=True)
    quality = torch.where(valid, blocks * centerness, 0.0).nan_to_num(nan=0.0).flatten(1)
    if count > quality.shape[1]:
        return torch.full_like(centerness, -torch.inf)
    worst = quality.topk(count, dim=1).values[:, -1, None, None, None]
    limit = (worst / centerness).clamp(max=1 - 1e-6).logit()
    limit = torch.where(worst > 0, limit - 1e-4 - 0.01 * limit.abs(), -torch.inf)  # the margin is that of _find_hits
    return torch.where(worst > centerness, torch.inf, limit)


def _logit(probability: float) -> float:
    """Return the logit of ``probability``, infinite at and beyond 0 and 1."""
    if probability <= 0 or probability >= 1:
        return math.copysign(math.inf, probability - 0.5)
    return math.log(probability / (1 - probability))
