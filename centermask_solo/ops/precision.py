"""Numeric precision under autocast and in double-precision models."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Return ``x`` in float32 if it has a lower precision, unchanged otherwise."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def finite_scores(x: Tensor) -> Tensor:
    """Return scores in float32, 0 where they are not finite, so that what has none ranks last."""
    return torch.where(x.isfinite(), x.float(), 0.0)
