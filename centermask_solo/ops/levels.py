"""The levels of a feature pyramid as one sequence of positions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def flatten_levels(maps: Sequence[Tensor]) -> Tensor:
    """Return the positions of all levels as rows, (N, R, C) contiguous: level by level, row by row within a level.

    Args:
        maps: L x (N, C, Hi, Wi), any dtype; R is the sum of Hi * Wi.
    """
    return torch.cat([x.flatten(2).transpose(1, 2) for x in maps], dim=1)


def split_levels(rows: Tensor, sizes: Sequence[tuple[int, int]]) -> tuple[Tensor, ...]:
    """Split rows that run through all levels into those of each level, L x (N, Hi * Wi, ...).

    Args:
        rows: (N, R, ...), in the order of :func:`flatten_levels`.
        sizes: (Hi, Wi) of each level.
    """
    return rows.split([height * width for height, width in sizes], dim=1)
