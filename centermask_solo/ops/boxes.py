"""Functions of boxes: the points they are measured from, and the pyramid level that they belong to."""

from __future__ import annotations

import torch
from torch import Tensor


def level_locations(size: tuple[int, int], stride: int, device: torch.device) -> Tensor:
    """The image points that the cells of a pyramid level stand for: (Hi*Wi, 2) float32 as (x, y), row by row.

    Cell (i, j) stands for ``(j * stride + stride // 2, i * stride + stride // 2)`` input pixels.

    Args:
        size: (Hi, Wi) of the level.
        stride: of the level, input pixels.
        device: where the result lies.
    """
    y, x = (torch.arange(n, dtype=torch.float32, device=device) * stride + stride // 2 for n in size)
    return torch.stack([x.repeat(len(y)), y.repeat_interleave(len(x))], dim=1)


def assign_levels_by_area_ratio(box_areas: Tensor, image_areas: Tensor, min_level: int, max_level: int) -> Tensor:
    """The pyramid level of each box, (R,) int64 in ``min_level``..``max_level``, from its share of the image.

    ``ceil(max_level - log2(image_area / box_area))``, clamped. With levels 3 to 5: more than half of the image is 5,
    more than a quarter is 4, everything else is 3. Boxes larger than the image are ``max_level``; boxes without area,
    or with an area that is not a number, are ``min_level``.

    Args:
        box_areas: (R,) float, in the frame of the network's input; the boxes need not lie within the image.
        image_areas: (R,) or one element: height x width of the box's image before padding, same unit.
        min_level: the finest level, e.g. 3 for a stride of 8.
        max_level: the coarsest level.

    Source: CenterMask, equation 2, with ``k_max`` = P5 as in its ablation and in the authors' code.
    Differs: the logarithm is replaced by the equivalent comparisons, which are exact at the boundaries and need no
        special case for an empty box; no effect otherwise.
    """
    levels = torch.full_like(box_areas, min_level, dtype=torch.int64)
    for level in range(min_level + 1, max_level + 1):
        levels += box_areas * 2.0 ** (max_level - level + 1) > image_areas
    return levels


def pairwise_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """The IoU of each two boxes, (..., M, R) float; 0 where both are without area.

    Args:
        boxes: (..., M, 4) float, x0 y0 x1 y1; leading dimensions are batches.
        others: (..., R, 4), in the same frame.
    """
    intersections = pairwise_intersections(boxes, others)
    unions = (_areas(boxes)[..., :, None] + _areas(others)[..., None, :]).sub_(intersections)
    return torch.where(intersections > 0, intersections / unions, 0.0)


def pairwise_intersections(boxes: Tensor, others: Tensor) -> Tensor:
    """The area that each two boxes share, (..., M, R) float; arguments as of :func:`pairwise_iou`."""
    x0, y0, x1, y1 = boxes[..., None].movedim(-2, 0).contiguous()  # (4, ..., M, 1), one coordinate after the other
    other_x0, other_y0, other_x1, other_y1 = others[..., None, :, :].movedim(-1, 0).contiguous()  # (4, ..., 1, R)
    widths = torch.minimum(x1, other_x1).sub_(torch.maximum(x0, other_x0)).clamp_(min=0)
    return torch.minimum(y1, other_y1).sub_(torch.maximum(y0, other_y0)).clamp_(min=0).mul_(widths)


def _areas(boxes: Tensor) -> Tensor:
    """Of boxes (..., 4): (...)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def inside_boxes(boxes: Tensor, size: tuple[int, int], padding: float) -> Tensor:
    """Which pixels of a map belong to each box and a border around it: (M, h, w) bool.

    A pixel belongs where its column j is at least the left side minus the padding and less than the right side plus
    it, as real numbers, and its row likewise.

    Args:
        boxes: (M, 4) float, x0 y0 x1 y1 in fractions of the map; sides may be swapped, and may lie outside.
        size: (h, w) of the map.
        padding: of each side, map pixels.

    Source: YOLACT's published code, with a padding of 1.
    """
    sides = []
    for start, n in ((0, size[1]), (1, size[0])):
        first, last = boxes[:, start], boxes[:, start + 2]
        low = torch.minimum(first, last) * n - padding
        high = torch.maximum(first, last) * n + padding
        pixels = torch.arange(n, device=boxes.device, dtype=boxes.dtype)
        sides.append((pixels >= low[:, None]) & (pixels < high[:, None]))
    columns, rows = sides
    return rows[:, :, None] & columns[:, None, :]
