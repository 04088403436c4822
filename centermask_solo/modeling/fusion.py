"""Batch norms with fixed statistics, folded into the convolutions before them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d, NaiveSyncBatchNorm
from torch import nn

from .backbone.vovnet_blocks import DeformUnit
from .layers import DeformConv2d

_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, NaiveSyncBatchNorm, FrozenBatchNorm2d)
_CONVS = (nn.Conv2d, DeformConv2d)
_IN_ORDER = (nn.Sequential, DeformUnit)  # modules that apply a convolution and the norm after it one after the other


@torch.no_grad()
def fuse_norms(model: nn.Module) -> int:
    """Fold every batch norm of a model in evaluation mode into the convolution before it, in place.

    The model then computes the same to rounding, in fewer passes over the features; it can no longer be trained, and
    its state dict lacks the norms. Group norms, which depend on the image, stay.

    Args:
        model: Model in evaluation mode.

    Returns:
        The number of norms that are gone.

    Raises:
        ValueError: The model is in training mode.
    """
    if model.training:
        raise ValueError("norms can only be fused in evaluation mode: call model.eval() first")
    count = 0
    for module in list(model.modules()):
        if isinstance(module, Conv2d) and isinstance(module.norm, _NORMS):
            _fold(module, module.norm)
            module.norm = None
            count += 1
        elif isinstance(module, _IN_ORDER):
            for conv, name, norm in list(_pairs(module)):
                _fold(conv, norm)
                module._modules[name] = nn.Identity()
                count += 1
    return count


def _pairs(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Yield each convolution that a batch norm directly follows, and name and module of the norm."""
    children = list(module.named_children())
    for (_, conv), (name, norm) in pairwise(children):
        has_activation = isinstance(conv, Conv2d) and (conv.activation is not None or conv.norm is not None)
        if isinstance(conv, _CONVS) and isinstance(norm, _NORMS) and not has_activation:
            yield conv, name, norm


def _fold(conv: Any, norm: Any) -> None:
    """Give a convolution the weight and bias with which it computes what ``norm`` makes of its output."""
    mean, var = norm.running_mean.double(), norm.running_var.double()
    scale = norm.weight.double() / (var + norm.eps).sqrt()
    bias = torch.zeros_like(mean) if conv.bias is None else conv.bias.double()
    weight = conv.weight.double() * scale[:, None, None, None]
    layout = torch.channels_last if conv.weight.is_contiguous(memory_format=torch.channels_last) else None
    weight = weight.to(conv.weight.dtype)
    conv.weight = nn.Parameter(weight if layout is None else weight.contiguous(memory_format=layout), False)
    conv.bias = nn.Parameter((norm.bias.double() + (bias - mean) * scale).to(conv.weight.dtype), False)
