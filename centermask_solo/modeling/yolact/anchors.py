"""The anchors of YOLACT: boxes around the cells of each level."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def cell_shapes(sizes: Sequence[float], aspect_ratios: Sequence[float], square: bool) -> Tensor:
    """Width and height of each anchor of a cell, (A, 2) float64, in the unit of ``sizes``; the ratios run fastest.

    Args:
        sizes: square roots of the anchors' areas.
        aspect_ratios: heights over widths, as in Detectron2.
        square: whether the height is set to the width.

    Source: YOLACT (arXiv 1904.02689), section 4; ``square`` is a slip that its published COCO weights depend on.
    """
    shapes = []
    for size in sizes:
        for ratio in aspect_ratios:
            width = size / math.sqrt(ratio)
            shapes.append((width, width if square else width * ratio))
    return torch.tensor(shapes, dtype=torch.float64).view(-1, 2)


def level_shapes(
    sizes: Sequence[Sequence[float]], aspect_ratios: Sequence[Sequence[float]], num_levels: int, *, square: bool
) -> list[Tensor]:
    """Width and height of the anchors of each level, L x (A, 2) float64.

    Args:
        sizes: a list for each level, or one for all; see :func:`cell_shapes`.
        aspect_ratios: likewise.
        num_levels: L.
        square: see :func:`cell_shapes`.

    Raises:
        ValueError: any other number of lists, or levels with different numbers of anchors.
    """
    for key, lists in (("SIZES", sizes), ("ASPECT_RATIOS", aspect_ratios)):
        if len(lists) not in (1, num_levels):
            raise ValueError(
                f"MODEL.ANCHOR_GENERATOR.{key} must have a list for each of the {num_levels} levels, or one for all, "
                f"but has {len(lists)}."
            )
    every_size, every_ratio = (list(x) * (num_levels // len(x)) for x in (sizes, aspect_ratios))
    shapes = [cell_shapes(s, r, square) for s, r in zip(every_size, every_ratio, strict=True)]
    numbers = [len(x) for x in shapes]
    if len(set(numbers)) > 1 or numbers[0] == 0:
        raise ValueError(
            "MODEL.ANCHOR_GENERATOR must give all levels, which share a head, the same number of anchors a cell "
            f"(sizes times aspect ratios), at least one, not {numbers}."
        )
    return shapes


def grid_anchors(
    level_sizes: Sequence[tuple[int, int]], shapes: Sequence[Tensor], input_size: tuple[int, int]
) -> Tensor:
    """All anchors, (R, 4) float32 x0 y0 x1 y1, not clipped, in the order of the head's outputs.

    In fractions of the input, which is the arithmetic of the published code: overlaps that it finds equal are equal
    here, and the first of them is matched. The cells of a level divide the input evenly: those of a level of 69 x 69
    are 550 / 69 = 7.97 pixels apart, where the stride is 8.

    Args:
        level_sizes: L x (Hi, Wi).
        shapes: L x (A, 2) widths and heights in input pixels, from :func:`level_shapes`.
        input_size: (T_h, T_w).
    """
    levels = []
    for (rows, columns), shape in zip(level_sizes, shapes, strict=True):
        y, x = ((torch.arange(n, dtype=torch.float64) + 0.5) / n for n in (rows, columns))
        centres = torch.stack([x.repeat(rows), y.repeat_interleave(columns)], dim=1)[:, None].float()  # (cells, 1, 2)
        shape = (shape / shape.new_tensor([input_size[1], input_size[0]])).float()
        levels.append(torch.cat([centres - shape / 2, centres + shape / 2], dim=2).flatten(0, 1))
    return torch.cat(levels)
