"""Training targets of every FCOS location."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ...ops.boxes import level_locations
from ...ops.chunks import rows_per_chunk


class FCOSTargets(NamedTuple):
    """The targets of all R locations of N images: level by level, row by row within a level."""

    classes: Tensor  # (N, R) int64; K for background
    ltrb: Tensor  # (N, R, 4) float32, distances to the sides of the object's box in strides; 0 for background
    centerness: Tensor  # (N, R) float32 in 0..1; 0 for background


def regression_ranges(sizes_of_interest: Sequence[float]) -> list[tuple[float, float]]:
    """Return the smallest and largest distance that each level regresses, both inclusive, in input pixels."""
    limits = [0.0, *sizes_of_interest, math.inf]
    return list(itertools.pairwise(limits))


@torch.no_grad()
def build_targets(
    gt_boxes: Sequence[Tensor],
    gt_classes: Sequence[Tensor],
    level_sizes: Sequence[tuple[int, int]],
    *,
    strides: Sequence[int],
    ranges: Sequence[tuple[float, float]],
    radius: float | None,
    num_classes: int,
) -> FCOSTargets:
    """Return the targets of all locations of a batch.

    Args:
        gt_boxes: N x (M, 4), x0 y0 x1 y1 in input pixels.
        gt_classes: N x (M,) int64, 0..K-1.
        level_sizes: (Hi, Wi) of each level of the padded batch.
        strides: Stride of each level in input pixels.
        ranges: For each level the smallest and largest value that the maximum of the four distances may have, in
            input pixels, inclusive.
        radius: Radius of center sampling in strides of the location's level; None accepts the whole box.
        num_classes: K, the label of background.

    Source: FCOS, section 3; center sampling and ranges as in CenterMask's published models.
    Differs: among boxes of equal area the first wins, on every device.
    """
    device = gt_boxes[0].device
    locations = torch.cat([level_locations(s, t, device) for s, t in zip(level_sizes, strides, strict=True)])
    cell_strides = torch.cat(
        [torch.full((h * w, 1), float(t), device=device) for (h, w), t in zip(level_sizes, strides, strict=True)]
    )
    classes, ltrb = [], []
    for boxes, labels in zip(gt_boxes, gt_classes, strict=True):
        index = match_locations(boxes.float(), level_sizes, strides, ranges, radius)
        classes.append(torch.cat([labels, labels.new_full((1,), num_classes)])[index])
        matched = F.pad(boxes.float(), (0, 0, 0, 1))[index]  # the row of zeros is for background
        distances = torch.cat([locations - matched[:, :2], matched[:, 2:] - locations], dim=1)
        ltrb.append(distances / cell_strides * (index < len(boxes))[:, None])
    all_ltrb = torch.stack(ltrb)
    return FCOSTargets(torch.stack(classes), all_ltrb, centerness_targets(all_ltrb))


def match_locations(
    boxes: Tensor,
    level_sizes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    ranges: Sequence[tuple[float, float]],
    radius: float | None,
) -> Tensor:
    """Return the index of the box assigned to each location of one image, (R,) int64: the smallest that claims it.

    Background is M. All conditions are separable in x and y, so only boolean (rows, Wi, M) tensors are built, a bounded
    number of rows at a time. Arguments as in :func:`build_targets`.
    """
    num_boxes = len(boxes)
    if num_boxes == 0:
        return torch.zeros(sum(h * w for h, w in level_sizes), dtype=torch.int64, device=boxes.device)
    # Sort the boxes by area, so that the smallest one is the one of lowest rank.
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    order = areas.argsort(stable=True)  # ties keep the order of the boxes
    x0, y0, x1, y1 = boxes[order].unbind(1)
    ranks = torch.arange(num_boxes, dtype=torch.int32, device=boxes.device)
    best = []
    for (height, width), stride, limits in zip(level_sizes, strides, ranges, strict=True):
        # Check the conditions along each axis on its own.
        y, x = (torch.arange(n, device=boxes.device)[:, None] * stride + stride // 2 for n in (height, width))
        reach = math.inf if radius is None else radius * stride
        x_inside, x_far = _claims_along_axis(x, x0, x1, reach, limits)
        y_inside, y_far = _claims_along_axis(y, y0, y1, reach, limits)
        # Combine the axes and keep the lowest rank that claims each location.
        step = rows_per_chunk(8 * width * num_boxes)  # an int32 and booleans for each pair
        for inside, far in zip(y_inside.split(step), y_far.split(step), strict=True):
            claimed = inside[:, None] & x_inside & (far[:, None] | x_far)
            best.append(torch.where(claimed, ranks, num_boxes).amin(dim=2).flatten())
    return F.pad(order, (0, 1), value=num_boxes)[torch.cat(best).long()]


def _claims_along_axis(
    position: Tensor, low: Tensor, high: Tensor, reach: float, limits: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Return two (n, M) booleans along one axis: inside with no side too far, and some side far enough."""
    farthest = torch.maximum(position - low, high - position)
    center = (low + high) / 2
    inside = (position > torch.maximum(low, center - reach)) & (position < torch.minimum(high, center + reach))
    return inside & (farthest <= limits[1]), farthest >= limits[0]


def centerness_targets(ltrb: Tensor) -> Tensor:
    """Return the centerness (...,) in 0..1 of locations with distances (..., 4); 0 where all distances are 0."""
    left, top, right, bottom = ltrb.unbind(-1)
    horizontal = torch.minimum(left, right) / torch.maximum(left, right)
    vertical = torch.minimum(top, bottom) / torch.maximum(top, bottom)
    return torch.nan_to_num((horizontal * vertical).sqrt())
