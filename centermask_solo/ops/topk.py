"""Top-k with a deterministic order of equal values on every device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_TOPK = 3840  # largest k that TensorRT takes


def stable_topk(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the ``k`` largest values of each row, descending, and their columns, (..., k) each; ties by column.

    Args:
        values: (..., n), not negative, without NaN; float32 takes the fast way, other types are sorted.
        k: Number of values; all of them if n is smaller.

    Differs: ``torch.topk`` does not define which of several equal values it takes, nor their order.
    """
    if values.dtype != torch.float32:
        ordered, columns = values.sort(dim=-1, descending=True, stable=True)
        return ordered[..., :k], columns[..., :k]
    return _topk(values, min(k, values.shape[-1]))


def padded_topk(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return what :func:`stable_topk` does, always in ``k`` columns: zeros of column 0 where a row has fewer.

    Its ``k`` is a constant in exported programs, where n may not be known.

    Args:
        values: (..., n) float32, not negative, without NaN; zeros are not distinguished from missing values.
        k: Number of values.
    """
    top, columns = _topk(F.pad(values, (0, k)), k)
    return top, torch.where(top > 0, columns, 0)


def _topk(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    n = values.shape[-1]
    # A float64 holds a float32 and, in the 29 bits that it has more, a factor that decreases from column to column by
    # less than the distance of two float32: ties are broken in arithmetic that every runtime has. A number far below
    # the smallest float32 lets the zeros have a factor, too.
    factors = 1 + torch.arange(n - 1, -1, -1, device=values.device, dtype=torch.float64) * 2.0**-48
    keys = (values.double() + 2.0**-200) * factors
    columns = keys.topk(k, dim=-1).indices
    return values.gather(-1, columns), columns
