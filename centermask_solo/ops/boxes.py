"""Functions of boxes: grid locations, pyramid levels, overlaps, and the pixels inside."""

from __future__ import annotations

import torch
from torch import Tensor


def level_locations(size: tuple[int, int], stride: int, device: torch.device) -> Tensor:
    """Return the image locations of the cells of a pyramid level: (Hi * Wi, 2) float32 as (x, y), row by row.

    The location of cell (i, j) is ``(j * stride + stride // 2, i * stride + stride // 2)`` in input pixels.

    Args:
        size: (Hi, Wi) of the level.
        stride: Stride of the level, input pixels.
        device: Device of the result.
    """
    y, x = (torch.arange(n, dtype=torch.float32, device=device) * stride + stride // 2 for n in size)
    return torch.stack([x.repeat(size[0]), y.repeat_interleave(size[1])], dim=1)


def assign_levels_by_area_ratio(box_areas: Tensor, image_areas: Tensor, min_level: int, max_level: int) -> Tensor:
    """Return the pyramid level of each box, (R,) int64 in ``min_level``..``max_level``, from its share of the image.

    The level is ``ceil(max_level - log2(image_area / box_area))``, clamped. With levels 3 to 5, boxes that cover more
    than half of the image go to level 5, more than a quarter to level 4, and all others to level 3. Boxes larger than
    the image go to ``max_level``; boxes whose area is zero or NaN go to ``min_level``.

    Args:
        box_areas: (R,) float, in the frame of the network input; boxes may extend beyond the image.
        image_areas: (R,) or one element: height x width of each box's image before padding, same unit.
        min_level: Finest level, e.g. 3 for a stride of 8.
        max_level: Coarsest level.

    Source: CenterMask, equation 2, with ``k_max`` = P5 as in its ablation and in the authors' code.
    Differs: equivalent comparisons replace the logarithm; they are exact at the boundaries and handle empty boxes.
    """
    levels = torch.full_like(box_areas, min_level, dtype=torch.int64)
    for level in range(min_level + 1, max_level + 1):
        levels += box_areas * 2.0 ** (max_level - level + 1) > image_areas
    return levels


def pairwise_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the IoU of every pair of boxes, (..., M, R) float; 0 where both have no area.

    Args:
        boxes: (..., M, 4) float, x0 y0 x1 y1; leading dimensions are batch dimensions.
        others: (..., R, 4) float, in the same frame.
    """
    intersections = pairwise_intersections(boxes, others)
    unions = (_areas(boxes)[..., :, None] + _areas(others)[..., None, :]).sub_(intersections)
    return torch.where(intersections > 0, intersections / unions, 0.0)


def pairwise_intersections(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the intersection area of every pair of boxes, (..., M, R) float; arguments as in :func:`pairwise_iou`."""
    x0, y0, x1, y1 = boxes[..., None].movedim(-2, 0).contiguous()  # (4, ..., M, 1), one coordinate after the other
    other_x0, other_y0, other_x1, other_y1 = others[..., None, :, :].movedim(-1, 0).contiguous()  # (4, ..., 1, R)
    widths = torch.minimum(x1, other_x1).sub_(torch.maximum(x0, other_x0)).clamp_(min=0)
    return torch.minimum(y1, other_y1).sub_(torch.maximum(y0, other_y0)).clamp_(min=0).mul_(widths)


def _areas(boxes: Tensor) -> Tensor:
    """Return the areas (...) of boxes (..., 4)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def inside_boxes(boxes: Tensor, size: tuple[int, int], padding: float) -> Tensor:
    """Return the pixels of a map that lie inside each box or a border around it: (..., M, h, w) bool.

    Column j is inside if ``left - padding <= j < right + padding``, compared as real numbers, and likewise for rows.

    Args:
        boxes: (..., M, 4) float, x0 y0 x1 y1 in fractions of the map; sides may be swapped or lie outside of it.
        size: (h, w) of the map.
        padding: Width of the border, map pixels.

    Source: YOLACT's published code, with a padding of 1.
    """
    sides = []
    for start, n in ((0, size[1]), (1, size[0])):
        first, last = boxes[..., start], boxes[..., start + 2]
        low = torch.minimum(first, last) * n - padding
        high = torch.maximum(first, last) * n + padding
        pixels = torch.arange(n, device=boxes.device, dtype=boxes.dtype)
        sides.append((pixels >= low[..., None]) & (pixels < high[..., None]))
    columns, rows = sides
    return rows[..., :, None] & columns[..., None, :]
