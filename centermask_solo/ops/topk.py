"""Top-k with a deterministic order of equal values on every device."""

from __future__ import annotations

import torch
from torch import Tensor


def stable_topk(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the ``k`` largest values of each row, descending, and their columns, (..., k) each; ties by column.

    Args:
        values: (..., n), not negative, without NaN; float32 takes the fast way, other types are sorted.
        k: Number of values; all of them if n is smaller.

    Differs: ``torch.topk`` does not define which of several equal values it takes, nor their order.
    """
    if values.dtype != torch.float32 or torch.jit.is_tracing():  # traces cannot reinterpret bits
        ordered, columns = values.sort(dim=-1, descending=True, stable=True)
        return ordered[..., :k], columns[..., :k]
    n = values.shape[-1]
    # The bits of a non-negative float, read as an integer, have the order of the float; the column breaks ties.
    ranks = values.contiguous().view(torch.int32).long() << 32
    keys = ranks + torch.arange(n - 1, -1, -1, device=values.device)
    columns = n - 1 - (keys.topk(min(k, n), dim=-1).values & 0xFFFFFFFF)
    return values.gather(-1, columns), columns
