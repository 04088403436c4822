"""The levels of a feature pyramid as one sequence of positions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
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


def resize_levels(features: Sequence[Tensor], in_strides: Sequence[int], strides: Sequence[int]) -> list[Tensor]:
    """Return feature maps at other strides; those that already have the right stride are unchanged.

    Args:
        features: L x (N, C, Hi, Wi).
        in_strides: Their strides, input pixels.
        strides: Strides of the results, input pixels.

    Returns:
        L x (N, C, T_h / stride, T_w / stride), bilinear without antialiasing.
    """
    height, width = (side * in_strides[0] for side in features[0].shape[-2:])
    levels = []
    for x, in_stride, stride in zip(features, in_strides, strides, strict=True):
        size = (height // stride or 1, width // stride or 1)  # not max(), which OpenVINO lacks for unknown sizes
        levels.append(x if stride == in_stride else F.interpolate(x, size, mode="bilinear", align_corners=False))
    return levels
