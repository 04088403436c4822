"""The building blocks of VoVNetV2: convolution units, effective squeeze-excitation, one-shot aggregation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from detectron2.layers import get_norm
from torch import Tensor, nn

from ..layers import Deformable, deform_conv_from_logits, offset_channels


class DeformOptions(NamedTuple):
    """Kind of the deformable layers of a stage: DCNv2 (modulated) or v1, and their number of channel groups."""

    modulated: bool
    groups: int


def conv_unit(
    name: str, in_channels: int, out_channels: int, kernel_size: int, *, norm: str, stride: int = 1
) -> list[tuple[str, nn.Module]]:
    """Return convolution, normalization and ReLU, named as in the published checkpoints."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False)
    return [
        (f"{name}/conv", conv),
        (f"{name}/norm", get_norm(norm, out_channels)),
        (f"{name}/relu", nn.ReLU(inplace=True)),
    ]


def conv3x3_unit(
    name: str, in_channels: int, out_channels: int, *, norm: str, stride: int = 1
) -> list[tuple[str, nn.Module]]:
    """Return a 3x3 :func:`conv_unit`, with the signature of :func:`depthwise_unit`."""
    return conv_unit(name, in_channels, out_channels, 3, norm=norm, stride=stride)


def depthwise_unit(
    name: str, in_channels: int, out_channels: int, *, norm: str, stride: int = 1
) -> list[tuple[str, nn.Module]]:
    """Return a depthwise 3x3 and a pointwise 1x1 convolution (nothing in between), normalization and ReLU."""
    depthwise = nn.Conv2d(in_channels, in_channels, 3, stride, padding=1, groups=in_channels, bias=False)
    return [
        (f"{name}/dw_conv3x3", depthwise),
        (f"{name}/pw_conv1x1", nn.Conv2d(in_channels, out_channels, 1, bias=False)),
        (f"{name}/pw_norm", get_norm(norm, out_channels)),
        (f"{name}/pw_relu", nn.ReLU(inplace=True)),
    ]


def named_sequential(layers: Sequence[tuple[str, nn.Module]]) -> nn.Sequential:
    """Return the layers in a sequence, with their names as keys."""
    sequence = nn.Sequential()
    for name, layer in layers:
        sequence.add_module(name, layer)
    return sequence


class DeformUnit(nn.Module, Deformable):
    """A deformable 3x3 convolution, normalization and ReLU; the convolution has the key of an ordinary unit."""

    def __init__(self, name: str, in_channels: int, out_channels: int, *, norm: str, deform: DeformOptions) -> None:
        """
        Args:
            name: Prefix of the keys.
            in_channels: Number of input channels.
            out_channels: Number of output channels.
            norm: Name of a normalization in Detectron2's ``get_norm``.
            deform: Kind of the deformable convolution.
        """
        super().__init__()
        self.name, self.modulated = name, deform.modulated
        offset = nn.Conv2d(in_channels, offset_channels(3, deform.groups, deform.modulated), 3, padding=1)
        nn.init.zeros_(offset.weight)
        nn.init.zeros_(offset.bias)  # type: ignore[arg-type]
        self.add_module(f"{name}/conv_offset", offset)
        for part, module in conv_unit(name, in_channels, out_channels, 3, norm=norm):
            self.add_module(part, module)
        nn.init.kaiming_uniform_(self._part("conv").weight, nonlinearity="relu")

    def _part(self, kind: str) -> Any:  # a name with a slash cannot be written as an attribute
        return self.get_submodule(f"{self.name}/{kind}")

    def forward(self, x: Tensor) -> Tensor:
        """Return the features of the unit, (N, out_channels, Hi, Wi)."""
        offset_logits = self._part("conv_offset")(x)
        conv = self._part("conv")
        x = deform_conv_from_logits(x, offset_logits, conv.weight, conv.bias, padding=1, modulated=self.modulated)
        return self._part("relu")(self._part("norm")(x))


class ESE(nn.Module):
    """Effective squeeze-excitation: multiplies each channel by a gate computed from the means of all channels."""

    def __init__(self, channels: int) -> None:
        """
        Args:
            channels: Number of input and output channels.
        """
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` (N, C, Hi, Wi) times its gates in 0..1."""
        return x * F.hardsigmoid(self.fc(x.mean((2, 3), keepdim=True)))


class OSABlock(nn.Module):
    """One-shot aggregation: a chain of 3x3 layers whose outputs are concatenated once and reduced by a 1x1.

    Source: Lee and Park, arXiv 1911.06667, section 3.3; Lee et al., arXiv 1904.09730.
    """

    def __init__(
        self,
        name: str,
        in_channels: int,
        conv_channels: int,
        out_channels: int,
        *,
        num_layers: int,
        norm: str,
        identity: bool,
        depthwise: bool = False,
        deform: DeformOptions | None = None,
    ) -> None:
        """
        Args:
            name: Prefix of the keys.
            in_channels: Number of input channels.
            conv_channels: Number of channels of the 3x3 layers.
            out_channels: Number of output channels.
            num_layers: Number of 3x3 layers.
            norm: Name of a normalization in Detectron2's ``get_norm``.
            identity: Whether the input is added to the output; needs ``in_channels`` = ``out_channels``.
            depthwise: Whether the layers are depthwise separable.
            deform: Kind of deformable layers; None for ordinary ones.
        """
        super().__init__()
        self.identity = identity
        self.conv_reduction: nn.Sequential | None = None
        channels = in_channels
        if depthwise and channels != conv_channels:
            self.conv_reduction = named_sequential(
                conv_unit(f"{name}_reduction_0", channels, conv_channels, 1, norm=norm)
            )
            channels = conv_channels
        self.layers = nn.ModuleList()
        for i in range(num_layers):
            layer = f"{name}_{i}"
            if depthwise:
                self.layers.append(named_sequential(depthwise_unit(layer, channels, conv_channels, norm=norm)))
            elif deform is not None:
                self.layers.append(DeformUnit(layer, channels, conv_channels, norm=norm, deform=deform))
            else:
                self.layers.append(named_sequential(conv_unit(layer, channels, conv_channels, 3, norm=norm)))
            channels = conv_channels
        aggregated = in_channels + num_layers * conv_channels
        self.concat = named_sequential(conv_unit(f"{name}_concat", aggregated, out_channels, 1, norm=norm))
        self.ese = ESE(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features of the block, (N, out_channels, Hi, Wi)."""
        outputs = [x]
        y = x if self.conv_reduction is None else self.conv_reduction(x)
        for layer in self.layers:
            y = layer(y)
            outputs.append(y)
        out = self.ese(self.concat(torch.cat(outputs, dim=1)))
        return out + x if self.identity else out
