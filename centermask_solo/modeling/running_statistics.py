"""Running statistics of batch norms in forward passes that are no steps of the training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

MOMENTUM = 0.0  # leaves them as they are, without a write that a backward pass would notice


@contextmanager
def running_statistics_kept(module: nn.Module) -> Iterator[None]:
    """Leave the running statistics of all batch norms of ``module`` as they are inside the context."""
    norms = [x for x in module.modules() if isinstance(x, _BatchNorm) and x.training and x.track_running_stats]
    before = [(x.momentum, x.num_batches_tracked) for x in norms]
    for norm in norms:
        norm.momentum = MOMENTUM
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked = norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
