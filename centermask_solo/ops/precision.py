"""Numeric precision under autocast and in double-precision models."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Return ``x`` in float32 if it has a lower precision, unchanged otherwise."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def finite_scores(x: Tensor) -> Tensor:
    """Return scores in float32, 0 where they are not finite, so that what has none ranks last."""
    return torch.where(x.isfinite(), x.float(), 0.0)


def in_float32(x: Tensor) -> AbstractContextManager[None]:
    """Return a context in which matrix products on the device of ``x`` stay in float32 under autocast.

    It does nothing where autocast is off: files of ``torch.export`` with such a context inside cannot be read.
    """
    try:
        is_on = torch.is_autocast_enabled(x.device.type)
    except TypeError:  # before PyTorch 2.4, which cannot tell by device
        is_on = True
    return torch.autocast(x.device.type, enabled=False) if is_on else nullcontext()
