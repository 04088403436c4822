"""Batch norms with fixed statistics, folded into the convolutions before them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from detectron2.layers import Conv2d, NaiveSyncBatchNorm
from torch import fx, nn

from .backbone.timm import TimmBackbone
from .backbone.vovnet_blocks import DeformUnit
from .layers import DeformConv2d

logger = logging.getLogger(__name__)

_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, NaiveSyncBatchNorm)
_FROZEN_NORM = {
    "weight",
    "bias",
    "running_mean",
    "running_var",
}  # all of them buffers: Detectron2's, torchvision's, timm's
_CONVS = (nn.Conv2d, DeformConv2d)
_PLAIN_CONVS = ("Conv2d", "Conv2dSame")  # of PyTorch and timm; others there compute their weights from the parameters
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
    for body in [module.body for module in model.modules() if isinstance(module, TimmBackbone)]:
        for conv, name in list(_traced_pairs(body)):
            parent, _, child = name.rpartition(".")
            norm = body.get_submodule(name)
            _fold(conv, norm)
            # timm has batch norms that contain the activation
            body.get_submodule(parent)._modules[child] = getattr(norm, "act", nn.Identity())
            count += 1
    in_timm = {id(x) for module in model.modules() if isinstance(module, TimmBackbone) for x in module.modules()}
    for module in [module for module in model.modules() if id(module) not in in_timm]:
        if isinstance(module, Conv2d) and _is_norm(module.norm):
            _fold(module, module.norm)
            module.norm = None
            count += 1
        elif isinstance(module, _IN_ORDER):
            for conv, name, norm in list(_pairs(module)):
                _fold(conv, norm)
                module._modules[name] = nn.Identity()
                count += 1
    return count


def _is_norm(module: object) -> bool:
    """Return whether a module is a batch norm, frozen or not."""
    return isinstance(module, _NORMS) or (isinstance(module, nn.Module) and module._buffers.keys() >= _FROZEN_NORM)


class _Tracer(fx.Tracer):
    """Records convolutions and batch norms as they are, and looks into everything else that is not PyTorch's."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.Conv2d) or _is_norm(m) or super().is_leaf_module(m, module_qualified_name)


def _traced_pairs(body: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Yield each convolution whose output goes into a batch norm and nowhere else, and the name of this norm.

    Nothing is yielded for a body that PyTorch cannot trace: it then keeps its norms.
    """
    try:
        nodes = list(_Tracer().trace(body).nodes)
    except Exception as error:  # whatever the code of the model raises on stand-ins of tensors
        logger.info("%s keeps its norms, as torch.fx cannot trace it (%s)", type(body).__name__, type(error).__name__)
        return
    calls = [str(node.target) for node in nodes if node.op == "call_module"]
    for node in nodes:
        if node.op != "call_module" or not _is_norm(norm := body.get_submodule(str(node.target))):
            continue
        source = node.args[0] if node.args else None
        if not isinstance(source, fx.Node) or source.op != "call_module" or len(source.users) > 1:
            continue
        conv = body.get_submodule(str(source.target))
        once = calls.count(str(node.target)) == calls.count(str(source.target)) == 1
        complete = norm.running_mean is not None and norm.weight is not None
        if once and complete and isinstance(conv, nn.Conv2d) and type(conv).__name__ in _PLAIN_CONVS:
            yield conv, str(node.target)


def _pairs(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Yield each convolution that a batch norm directly follows, and name and module of the norm."""
    children = list(module.named_children())
    for (_, conv), (name, norm) in pairwise(children):
        has_activation = isinstance(conv, Conv2d) and (conv.activation is not None or conv.norm is not None)
        if isinstance(conv, _CONVS) and _is_norm(norm) and not has_activation:
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
