"""The anchors of YOLACT: boxes around the cells of each level."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ...utils.errors import ConfigError


def cell_shapes(sizes: Sequence[float], aspect_ratios: Sequence[float], square: bool) -> Tensor:
    """Return width and height of each anchor of a cell, (A, 2) float64, in the unit of ``sizes``; ratios run fastest.

    Args:
        sizes: Square roots of the anchors' areas.
        aspect_ratios: Heights divided by widths, as in Detectron2.
        square: Whether the height is set to the width.

    Source: YOLACT (arXiv 1904.02689), section 4; ``square`` is a slip that the published COCO weights depend on.
    """
    shapes = []
    for size in sizes:
        for ratio in aspect_ratios:
            width = size / math.sqrt(ratio)
            shapes.append((width, width if square else width * ratio))
    return torch.tensor(shapes, dtype=torch.float64).view(-1, 2)


def level_shapes(
    sizes: Sequence[Sequence[float]], aspect_ratios: Sequence[Sequence[float]], num_levels: int, *, square: bool
) -> Tensor:
    """Return width and height of the anchors of each level, (L, A, 2) float64.

    Args:
        sizes: One list per level, or one for all; see :func:`cell_shapes`.
        aspect_ratios: Likewise.
        num_levels: L.
        square: See :func:`cell_shapes`.

    Raises:
        ConfigError: The number of lists is wrong, or levels have different numbers of anchors.
    """
    for key, lists in (("SIZES", sizes), ("ASPECT_RATIOS", aspect_ratios)):
        if len(lists) not in (1, num_levels):
            raise ConfigError(
                f"MODEL.ANCHOR_GENERATOR.{key} must have a list for each of the {num_levels} levels, or one for all, "
                f"but has {len(lists)}"
            )
    every_size, every_ratio = (list(x) * (num_levels // len(x)) for x in (sizes, aspect_ratios))
    shapes = [cell_shapes(s, r, square) for s, r in zip(every_size, every_ratio, strict=True)]
    numbers = [len(x) for x in shapes]
    if len(set(numbers)) > 1 or numbers[0] == 0:
        raise ConfigError(
            "MODEL.ANCHOR_GENERATOR must give all levels, which share a head, the same number of anchors per cell "
            f"(sizes times aspect ratios), at least one, not {numbers}"
        )
    return torch.stack(shapes)


def grid_anchors(level_sizes: Sequence[tuple[int, int]], shapes: Tensor) -> Tensor:
    """Return all anchors, (R, 4) float32 x0 y0 x1 y1, not clipped, in the order of the head's outputs.

    They are in fractions of the input, as in the published code, so that the same overlaps are equal and the first of
    equal ones is matched. The cells of a level divide the input evenly: those of a level of 69 x 69 are
    550 / 69 = 7.97 pixels apart, although the stride is 8.

    Args:
        level_sizes: (Hi, Wi) of the L levels.
        shapes: (L, A, 2) float32, widths and heights in fractions of the input; the result is on their device.
    """
    levels = []
    for (rows, columns), half in zip(level_sizes, shapes / 2, strict=True):
        y, x = ((torch.arange(n, dtype=torch.float32, device=shapes.device) + 0.5) / n for n in (rows, columns))
        centers = torch.stack([x.repeat(rows), y.repeat_interleave(columns)], dim=1)[:, None]  # (cells, 1, 2)
        levels.append(torch.cat([centers - half, centers + half], dim=2).flatten(0, 1))
    return torch.cat(levels)


@contextmanager
def resizing_to(model: Any, side: int) -> Iterator[None]:
    """Let a YOLACT resize images to a square of another side; its anchors keep their sizes in pixels.

    Args:
        model: The model.
        side: In pixels.
    """
    before, shapes = model.input_size, model.anchor_shapes
    model.input_size, model.anchor_shapes = (side, side), shapes * (before[0] / side)
    try:
        yield
    finally:
        model.input_size, model.anchor_shapes = before, shapes
