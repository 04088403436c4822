"""Gradient checkpointing: activations of the backbone are computed again in the backward pass instead of kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..utils.errors import ConfigError
from .batch_norms import running_statistics_kept

logger = logging.getLogger(__name__)


def checkpoint_backbone(model: nn.Module) -> int:
    """Let the blocks of a model's backbone keep only their inputs for the backward pass; return their number.

    The results and gradients are the same. Parts that are not trained keep nothing in any case: a backbone that is
    frozen has no blocks to change, which a line of the log says.

    Raises:
        ConfigError: The model has no backbone with stages.
    """
    backbone = getattr(model, "backbone", None)
    blocks = list(_blocks(getattr(backbone, "bottom_up", backbone))) if isinstance(backbone, nn.Module) else []
    if not blocks:
        raise ConfigError(
            f"MODEL.BACKBONE.GRADIENT_CHECKPOINTING: {type(model).__name__} has no backbone with stages: set it False"
        )
    blocks = [x for x in blocks if any(p.requires_grad for p in x.parameters())]
    if not blocks:
        logger.info("MODEL.BACKBONE.GRADIENT_CHECKPOINTING has no effect, as nothing in the backbone is trained")
    for block in blocks:
        block.forward = partial(_run, block, block.forward)  # its parameters keep their names
    return len(blocks)


def _blocks(module: Any) -> Iterator[nn.Module]:
    """Yield the blocks of the stages of a backbone that have parameters: the entries of its sequences."""
    for child in module.children():
        if isinstance(child, nn.Sequential):
            yield from (x for x in child if any(True for _ in x.parameters()))
        elif any(isinstance(x, nn.Sequential) for x in child.modules()):
            yield from _blocks(child)


def _run(block: nn.Module, forward: Callable[..., Any], *args: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args)

    def contexts() -> tuple[AbstractContextManager, AbstractContextManager]:
        return nullcontext(), running_statistics_kept(block)

    return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts)


__all__ = ["checkpoint_backbone"]
