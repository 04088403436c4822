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
