"""Batch norms in training: frozen parts, statistics of all processes, and passes that are no steps."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from detectron2.layers import NaiveSyncBatchNorm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..utils.errors import ConfigError
from .channels_last import BatchNorm2d

MOMENTUM = 0.0  # leaves statistics as they are, without a write that a backward pass would notice


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


def check_pattern(option: str, pattern: str, names: Sequence[str]) -> None:
    """Raise ConfigError unless a pattern, in which * stands for anything, matches the name of a parameter."""
    if not fnmatch.filter(names, pattern):
        raise ConfigError(
            f"{option}: no parameter of the model matches {pattern!r}: they have names such as '{names[0]}' and "
            f"'{names[-1]}', and * stands for anything"
        )


def freeze(model: nn.Module, patterns: Sequence[str]) -> int:
    """Freeze the parameters whose names match a pattern, and the statistics of their batch norms.

    Returns:
        Number of parameters, counted as tensors, that are frozen by it.

    Raises:
        ConfigError: A pattern matches no parameter, or nothing is left to train.
    """
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        check_pattern("MODEL.FREEZE", pattern, names)
    frozen = {name for pattern in patterns for name in fnmatch.filter(names, pattern)}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and name not in frozen)
    for prefix, module in model.named_modules():
        own = {f"{prefix}.{name}" for name, _ in module.named_parameters(recurse=False)}
        if isinstance(module, _BatchNorm) and own and own <= frozen:
            module.register_forward_pre_hook(_use_running_statistics)
    if not any(p.requires_grad for p in model.parameters()):
        raise ConfigError(f"MODEL.FREEZE {', '.join(patterns)} freezes the whole model: leave something to train")
    return len(frozen)


def _use_running_statistics(module: nn.Module, _: object) -> None:
    module.eval()


def synchronize_batch_norms(model: nn.Module) -> nn.Module:
    """Return the model with batch norms that use the statistics of all processes; names and values stay.

    On a GPU these are PyTorch's, on a CPU, where there are none, Detectron2's, which weight each process by its number
    of images.
    """
    if next(model.parameters()).device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in model.modules():
        if type(module) in (nn.BatchNorm2d, BatchNorm2d):
            module.__class__ = NaiveSyncBatchNorm  # in place, as torch.nn.utils.parametrize does
            module._stats_mode = "N"  # type: ignore[assignment]
    return model
