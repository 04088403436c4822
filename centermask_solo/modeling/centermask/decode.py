"""From FCOS's outputs to boxes: all images and levels at once, with two waits for the device. No Instances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...ops.boxes import level_locations


class Candidates(NamedTuple):
    """What enters NMS: the boxes of one image, best first."""

    scores: Tensor  # (M,) float32, sqrt(class probability x centerness)
    pred_classes: Tensor  # (M,) int64
    boxes: Tensor  # (M, 4) float32 x0, y0, x1, y1 in input pixels, not clipped
    locations: Tensor  # (M, 2) float32, the (x, y) that predicted each, input pixels


class _Hits(NamedTuple):
    """Every (location, class) pair of a batch that may pass the threshold; one row each."""

    group: Tensor  # image x L + level
    image: Tensor
    location: Tensor  # row among all locations of an image
    classes: Tensor
    probability: Tensor  # of the class
    quality: Tensor  # class probability x centerness, which ranks


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
    """The candidate boxes of each image, best first, at most ``pre_nms_topk`` a level.

    Anything that is not finite is left out. Everything is computed in float32.

    Args:
        class_logits: for each level (N, K, Hi, Wi).
        ltrb: for each level (N, 4, Hi, Wi), distances in strides.
        centerness_logits: for each level (N, 1, Hi, Wi).
        strides: of each level, input pixels.
        score_thresh: class probability that a candidate must exceed.
        thresh_with_centerness: class probability x centerness must exceed it instead.
        pre_nms_topk: candidates of an image and level that are kept, by class probability x centerness.

    Source: FCOS, as in CenterMask's published code.
    """
    num_images, sizes = len(class_logits[0]), [(x.shape[2], x.shape[3]) for x in class_logits]
    hits = _find_hits(class_logits, centerness_logits, score_thresh)
    points = torch.cat([level_locations(s, t, ltrb[0].device) for s, t in zip(sizes, strides, strict=True)])
    distances = _flatten([x.float() * t for x, t in zip(ltrb, strides, strict=True)])[hits.image, hits.location]
    xy = points[hits.location]
    boxes = torch.cat([xy - distances[:, :2], xy + distances[:, 2:]], dim=1)
    passing = hits.quality if thresh_with_centerness else hits.probability
    valid = (passing > score_thresh) & boxes.isfinite().all(dim=1) & hits.quality.isfinite()

    quality = torch.where(valid, hits.quality, -1.0)
    keep = valid & (_rank_in_group(quality, hits.group, num_images * len(sizes)) < pre_nms_topk)
    rows = _rows_per_image(keep, quality, hits.image, num_images)
    return [Candidates(quality[r].sqrt(), hits.classes[r], boxes[r], xy[r]) for r in rows]


def _rank_in_group(values: Tensor, group: Tensor, num_groups: int) -> Tensor:
    """For each row its place, from 0, among the rows of its group by falling value: (M,) int64."""
    order = _sort_within(values, group)
    counts = _counts(group, torch.ones_like(group), num_groups)
    starts = counts.cumsum(0) - counts
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - starts[group[order]]
    return rank


def _rows_per_image(keep: Tensor, quality: Tensor, image: Tensor, num_images: int) -> list[Tensor]:
    """For each image the rows to keep, best first. How many there are is the second and last wait for the device."""
    order = _sort_within(torch.where(keep, quality, -1.0), image)
    sizes = torch.stack([_counts(image, keep.long(), num_images), _counts(image, torch.ones_like(image), num_images)])
    num_kept, num_all = sizes.tolist()
    return [rows[:n] for rows, n in zip(order.split(num_all), num_kept, strict=True)]


def _sort_within(values: Tensor, group: Tensor) -> Tensor:
    """The order that puts the groups one after the other, each by falling value; equal values keep their order."""
    order = values.argsort(descending=True, stable=True)
    return order[group[order].argsort(stable=True)]


def _counts(group: Tensor, weight: Tensor, num_groups: int) -> Tensor:
    """The sum of ``weight`` (int64) in each group, without waiting for the device as ``bincount`` does."""
    return torch.zeros(num_groups, dtype=torch.int64, device=group.device).scatter_add_(0, group, weight)


def _find_hits(class_logits: Sequence[Tensor], centerness_logits: Sequence[Tensor], score_thresh: float) -> _Hits:
    """The pairs whose class probability exceeds the threshold, or nearly: rounding is left to the caller's own check.

    Logits are compared with the threshold's logit, so that no probability of the others is ever computed. Their number
    is the first wait.
    """
    limit = _logit(score_thresh)
    limit = limit - 1e-4 - 0.01 * abs(limit) if math.isfinite(limit) else limit  # beyond half precision's rounding
    logits = torch.cat([x.flatten(1) for x in class_logits], dim=1)
    image, position = (logits > limit).nonzero(as_tuple=True)
    num_classes = class_logits[0].shape[1]
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
    centerness = _flatten(centerness_logits)[image, location, 0].float().sigmoid()
    group = image * len(class_logits) + level
    return _Hits(group, image, location, classes, probability, probability * centerness)


def _flatten(maps: Sequence[Tensor]) -> Tensor:
    """Maps (N, C, Hi, Wi) of all levels as (N, R, C)."""
    return torch.cat([x.flatten(2) for x in maps], dim=2).transpose(1, 2)


def _logit(probability: float) -> float:
    """The logit of ``probability``, infinite at and beyond 0 and 1."""
    if probability <= 0 or probability >= 1:
        return math.copysign(math.inf, probability - 0.5)
    return math.log(probability / (1 - probability))
