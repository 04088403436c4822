"""The largest values in an order that does not depend on the device: of equal ones the first."""

from __future__ import annotations

import torch
from torch import Tensor


def stable_topk(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` largest values of each row, descending, and their columns, of equal values the first: (..., k) each.

    Args:
        values: (..., n) float32, not negative, without NaN.
        k: as many, or all where n is less.

    Differs: ``torch.topk`` leaves the order of equal values, and which of them are taken, open.
    """
    n = values.shape[-1]
    # The bits of a float that is not negative, read as an integer, rank as the float does; the column breaks ties.
    ranks = values.contiguous().view(torch.int32).long() << 32
    keys = ranks + torch.arange(n - 1, -1, -1, device=values.device)
    columns = n - 1 - (keys.topk(min(k, n), dim=-1).values & 0xFFFFFFFF)
    return values.gather(-1, columns), columns
