"""Layers shared by several systems: deformable convolutions, convolution towers, a learned scale."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.ops import DropBlock2d, deform_conv2d, drop_block2d

__all__ = [
    "TOWER_DEFORMABLE",
    "TOWER_NORMS",
    "DeformConv2d",
    "Deformable",
    "DropBlock",
    "Scale",
    "conv_tower",
    "deform_conv_from_logits",
    "init_conv_xavier_",
    "init_convs_normal_",
    "offset_channels",
    "scale_coordinates_",
]

TOWER_NORMS = ("GN", "none")  # of a convolution tower; GN has 32 groups
TOWER_DEFORMABLE = ("none", "last", "all")  # which convolutions of a tower are deformable


def offset_channels(kernel_size: int, deform_groups: int, modulated: bool) -> int:
    """Return the number of output channels of the offset convolution of a deformable convolution."""
    return (3 if modulated else 2) * kernel_size * kernel_size * deform_groups


def deform_conv_from_logits(
    x: Tensor,
    offset_logits: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    modulated: bool,
) -> Tensor:
    """Return the deformable convolution of ``x`` with the offsets (and masks) computed by an offset convolution.

    Computed in float32 also under autocast: the operator has no bfloat16 kernel, and sampling positions need more than
    8 bits. NaN offsets count as 0, because the operator would read out of bounds; the NaN in ``x`` that caused them
    still reaches the output.

    Args:
        x: (N, C, Hi, Wi), any floating dtype.
        offset_logits: (N, G * 2kk or G * 3kk, Ho, Wo) for G deformable groups of k x k taps: first the offsets, a pair
            (y, x) in input pixels per tap and group; if modulated, then a mask logit per tap and group.
        weight: (C_out, C / groups, k, k).
        bias: (C_out,) or None.
        stride: Stride of the convolution, input pixels.
        padding: Zero padding, input pixels.
        dilation: Distance between taps, input pixels.
        modulated: Whether it is DCNv2, where each sampled value is multiplied by the sigmoid of its mask logit, instead
            of DCN v1.

    Returns:
        (N, C_out, Ho, Wo), of the dtype of ``x``.

    Source: Dai et al., arXiv 1703.06211 (v1); Zhu et al., arXiv 1811.11168 (v2).
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    offsets = offset_logits.to(dtype)
    mask = None
    if modulated:
        num_offsets = offsets.shape[1] // 3 * 2
        mask = offsets[:, num_offsets:].sigmoid()
        offsets = offsets[:, :num_offsets]
    offsets = torch.where(offsets.isnan(), torch.zeros_like(offsets), offsets)
    weight = weight.to(dtype)
    if weight.shape[2:] == (1, 1):  # whose strides may be channels-last, with which torchvision's backward pass fails
        weight = weight.flatten(1)[:, :, None, None]
    out = deform_conv2d(
        x.to(dtype),
        offsets,
        weight,
        None if bias is None else bias.to(dtype),
        stride=(stride, stride),
        padding=(padding, padding),
        dilation=(dilation, dilation),
        mask=mask,
    )
    return out.to(x.dtype)


class Deformable:
    """Marks modules that compute a deformable convolution, whose replays as CUDA graphs are silently wrong."""


class DeformConv2d(nn.Module, Deformable):
    """A deformable convolution that computes its own offsets: keys ``weight``, ``conv_offset.*`` and maybe ``bias``.

    The weight has the name and shape of an ordinary convolution's, so that weights of one load into the other. Offsets
    start at 0, which makes the layer that convolution (half of it if modulated, because the masks start at 0.5).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        deform_groups: int = 1,
        modulated: bool,
        bias: bool,
    ) -> None:
        """
        Args:
            in_channels: Number of input channels.
            out_channels: Number of output channels.
            kernel_size: Number of taps per side.
            stride: Stride of the convolution and of its offset convolution, as are ``padding`` and ``dilation``.
            padding: Zero padding.
            dilation: Distance between taps.
            groups: Number of channel groups of the convolution.
            deform_groups: Number of groups of input channels with their own offsets.
            modulated: Whether it is DCNv2 (offsets and masks) instead of DCN v1 (offsets only).
            bias: Whether the convolution has a bias; the offset convolution always has one.
        """
        super().__init__()
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.modulated = modulated
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.conv_offset = nn.Conv2d(
            in_channels,
            offset_channels(kernel_size, deform_groups, modulated),
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
        )
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")
        nn.init.zeros_(self.conv_offset.weight)
        nn.init.zeros_(self.conv_offset.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of ``x`` (N, in_channels, Hi, Wi) at learned positions, (N, out_channels, Ho, Wo)."""
        return deform_conv_from_logits(
            x,
            self.conv_offset(x),
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            modulated=self.modulated,
        )


class DropBlock(DropBlock2d):
    """torchvision's DropBlock (arXiv 1810.12890), which zeroes squares of features in training, for any maps."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` (N, C, Hi, Wi) with squares of at most the block's size set to 0, and the rest scaled up."""
        side = min(self.block_size, x.shape[2], x.shape[3])
        return drop_block2d(x, self.p, side - 1 + side % 2, self.inplace, self.eps, self.training)


class Scale(nn.Module):
    """A learned scalar that multiplies its input; key ``scale``, shape (1,)."""

    def __init__(self, init_value: float = 1.0) -> None:
        """
        Args:
            init_value: Initial value.
        """
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([init_value], dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` times the scalar, of the same shape."""
        return x * self.scale


def conv_tower(
    in_channels: int,
    channels: int,
    num_convs: int,
    *,
    norm: str,
    bias: bool,
    deformable: str = "none",
    modulated: bool = True,
) -> nn.Sequential:
    """Return ``num_convs`` times 3x3 convolution, normalization and ReLU, which keep the size of their input.

    Indices count every module: convolutions are 0, 3, 6, ... with a norm and 0, 2, 4, ... without.

    Args:
        in_channels: Number of input channels.
        channels: Number of output channels of every convolution.
        num_convs: Number of convolutions; 0 returns an empty sequence.
        norm: "GN" (32 groups) or "none".
        bias: Whether ordinary convolutions have a bias; deformable ones never do.
        deformable: Which convolutions are deformable: "none", "last" or "all".
        modulated: Whether deformable convolutions are DCNv2 instead of v1.

    Raises:
        ValueError: ``norm`` or ``deformable`` is unknown.
    """
    if norm not in TOWER_NORMS:
        raise ValueError(f'the normalization of a convolution tower must be "GN" or "none", not {norm!r}')
    if deformable not in TOWER_DEFORMABLE:
        raise ValueError(f'the deformable convolutions of a tower must be "none", "last" or "all", not {deformable!r}')
    layers: list[nn.Module] = []
    for i in range(num_convs):
        if deformable == "all" or (deformable == "last" and i == num_convs - 1):
            layers.append(DeformConv2d(in_channels, channels, 3, padding=1, modulated=modulated, bias=False))
        else:
            layers.append(nn.Conv2d(in_channels, channels, 3, padding=1, bias=bias))
        if norm == "GN":
            layers.append(nn.GroupNorm(32, channels))
        layers.append(nn.ReLU(inplace=True))
        in_channels = channels
    return nn.Sequential(*layers)


def init_convs_normal_(module: nn.Module, std: float = 0.01) -> None:
    """Initialize every convolution in ``module`` in place: normal weights, zero biases.

    The offset convolutions of :class:`DeformConv2d` stay at zero.

    Args:
        module: Module whose convolutions, at any depth, to initialize.
        std: Standard deviation of the weights.
    """
    offset_convs = {id(m.conv_offset) for m in module.modules() if isinstance(m, DeformConv2d)}
    for m in module.modules():
        if isinstance(m, (nn.Conv2d, DeformConv2d)) and id(m) not in offset_convs:
            nn.init.normal_(m.weight, std=std)
            if m.bias is not None:
                nn.init.zeros_(m.bias)


def scale_coordinates_(tower: nn.Module, count: int, factor: float) -> None:
    """Multiply the weights of the coordinates that enter a tower of convolutions, in place.

    Args:
        tower: Module whose first convolution has them as its last input channels.
        count: Number of these channels.
        factor: Factor of their weights.
    """
    first = next(m for m in tower.modules() if isinstance(m, (nn.Conv2d, DeformConv2d)))
    with torch.no_grad():
        first.weight[:, -count:] *= factor


def init_conv_xavier_(conv: nn.Module) -> None:
    """Initialize one convolution in place: Xavier-uniform weight, zero bias.

    Args:
        conv: Module with a ``weight`` and a ``bias``, which may be None.
    """
    nn.init.xavier_uniform_(conv.weight)  # type: ignore[arg-type]
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
