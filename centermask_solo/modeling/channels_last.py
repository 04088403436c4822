"""Models whose feature maps are stored as (N, H, W, C)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from detectron2.config import configurable
from detectron2.layers import Conv2d, NaiveSyncBatchNorm
from detectron2.utils import comm
from torch import Tensor, nn

from ..ops.normalization import normalize

Model = TypeVar("Model", bound=nn.Module)


def configurable_model(constructor: Callable[..., None]) -> Callable[..., None]:
    """Return Detectron2's ``configurable`` constructor of a meta-architecture, which also sets the layout of a config.

    A model that is built from a config, by whatever program, has the layout that ``MODEL.CHANNELS_LAST`` names; one
    that is built from parts has theirs.
    """
    configured = configurable(constructor)

    @functools.wraps(configured)
    def construct(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        configured(self, *args, **kwargs)
        cfg = args[0] if args else kwargs.get("cfg")  # parts are keywords of other names
        if cfg is not None and cfg.MODEL.CHANNELS_LAST:
            to_channels_last(self)

    return construct


def to_channels_last(model: Model) -> Model:
    """Store the parameters of a model, and so its feature maps, as (N, H, W, C); return the model.

    On a CPU, its batch norms and group norms also become those of this module, which differ from PyTorch's in their
    rounding only: names, parameters, buffers and hooks stay. Batch norms that several processes synchronize
    stay as they are.
    """
    model.to(memory_format=torch.channels_last)
    own_norms = OWN_NORMS | (OWN_NORMS_OF_ONE_PROCESS if comm.get_world_size() == 1 else {})
    for module in model.modules():
        own = own_norms.get(type(module))
        parameters = list(module.parameters(recurse=False))
        if own is not None and len(parameters) == 2 and all(p.device.type == "cpu" for p in parameters):
            module.__class__ = own  # in place, as torch.nn.utils.parametrize does
    return model


def to_contiguous(model: Model) -> Model:
    """Undo :func:`to_channels_last`; return the model."""
    model.to(memory_format=torch.contiguous_format)
    use_native_norms(model)
    return model


def use_onednn(model: nn.Module) -> None:
    """Let oneDNN compute the 1 x 1 convolutions of a model in the channels-last layout on a CPU, in place.

    With one thread, PyTorch multiplies matrices instead for few images in float32, which takes up to 1.4 times as long.
    It does not for dilated ones; to a single tap dilation means nothing.
    """
    convs = [x for x in model.modules() if isinstance(x, nn.Conv2d) and type(x) in (nn.Conv2d, Conv2d)]
    for conv in convs:
        if conv.kernel_size == (1, 1) and conv.groups == 1:
            conv.dilation = (2, 2)


def use_native_norms(model: nn.Module) -> None:
    """Undo :func:`to_channels_last` for the norms: PyTorch's are several times faster in half precision."""
    for module in model.modules():
        if type(module) in (BatchNorm2d, GroupNorm):
            module.__class__ = type(module).__bases__[0]


class BatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` with exact statistics in training, in the channels-last format on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` (N, C, H, W) normalized."""
        if not (self.training and self.track_running_stats and _needs_care(x)):
            return super().forward(x)
        y, mean, var = normalize(x, self.weight, self.bias, eps=self.eps)
        with torch.no_grad():
            assert self.num_batches_tracked is not None
            assert self.running_mean is not None and self.running_var is not None
            self.num_batches_tracked.add_(1)
            momentum = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
            count = x.numel() // x.shape[1]
            self.running_mean.lerp_(mean.flatten(), momentum)
            self.running_var.lerp_(var.flatten() * (count / (count - 1)), momentum)
        return y


class GroupNorm(nn.GroupNorm):
    """``nn.GroupNorm`` with exact statistics in the channels-last format on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` (N, C, H, W) normalized."""
        if not _needs_care(x):
            return super().forward(x)
        return normalize(x, self.weight, self.bias, eps=self.eps, groups=self.num_groups)[0]


OWN_NORMS: dict[type[nn.Module], type[nn.Module]] = {nn.BatchNorm2d: BatchNorm2d, nn.GroupNorm: GroupNorm}
OWN_NORMS_OF_ONE_PROCESS: dict[type[nn.Module], type[nn.Module]] = {
    nn.SyncBatchNorm: BatchNorm2d,
    NaiveSyncBatchNorm: BatchNorm2d,
}


def _needs_care(x: Tensor) -> bool:
    """Return whether PyTorch would compute the statistics of ``x`` with its channels-last kernels for the CPU."""
    return (
        x.device.type == "cpu"
        and x.dim() == 4
        and x.numel() > 0
        and x.is_contiguous(memory_format=torch.channels_last)
        and not x.is_contiguous()
        and not torch.jit.is_tracing()  # traces hold operators of PyTorch only
    )
