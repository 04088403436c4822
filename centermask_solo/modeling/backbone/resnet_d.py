"""The parts of ResNet-D ("vd"): a stem of three 3x3 convolutions, and shortcuts that pool before they project."""

from __future__ import annotations

import fvcore.nn.weight_init as weight_init
import torch.nn.functional as F
from detectron2.layers import CNNBlockBase, Conv2d, get_norm
from torch import Tensor, nn

__all__ = ["DeepStem", "PooledConv2d"]


class DeepStem(CNNBlockBase):
    """Three 3x3 convolutions, the first of stride 2, and max pooling of stride 2, in place of a 7x7 convolution.

    Source: Tong He et al., arXiv 1812.01187, figure 2b (ResNet-C).
    """

    def __init__(self, in_channels: int, out_channels: int, norm: str) -> None:
        """
        Args:
            in_channels: Number of channels of the image.
            out_channels: Number of output channels; the first two convolutions have half of them.
            norm: Name of a normalization in Detectron2's ``get_norm``.
        """
        super().__init__(in_channels, out_channels, 4)
        widths = (in_channels, out_channels // 2, out_channels // 2, out_channels)
        for i in range(3):
            conv = Conv2d(
                widths[i],
                widths[i + 1],
                kernel_size=3,
                stride=2 if i == 0 else 1,
                padding=1,
                bias=False,
                norm=get_norm(norm, widths[i + 1]),
            )
            weight_init.c2_msra_fill(conv)
            self.add_module(f"conv{i + 1}", conv)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (N, out_channels, ceil(T_h / 4), ceil(T_w / 4)) of images (N, in_channels, T_h, T_w)."""
        for conv in self.children():
            x = F.relu_(conv(x))
        return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)


class PooledConv2d(Conv2d):
    """A 1x1 convolution behind average pooling of 2x2 pixels, in place of one of stride 2, which skips three of four.

    Source: Tong He et al., arXiv 1812.01187, figure 2c (ResNet-D).
    """

    @classmethod
    def of(cls, conv: Conv2d) -> PooledConv2d:
        """Return the layer that replaces ``conv``, a 1x1 convolution of stride 2; it shares weight and norm."""
        pooled = cls(conv.in_channels, conv.out_channels, kernel_size=1, bias=False, norm=conv.norm)
        pooled.weight = conv.weight
        return pooled

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of ``x`` (N, in_channels, Hi, Wi): (N, out_channels, ceil(Hi / 2), ceil(Wi / 2))."""
        return super().forward(F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False))


def pool_shortcuts(stages: list[nn.Sequential]) -> None:
    """Make every shortcut of stride 2 in the stages of a ResNet a :class:`PooledConv2d`, in place."""
    for stage in stages:
        for block in stage:
            if isinstance(block.shortcut, Conv2d) and block.shortcut.stride == (2, 2):
                block.shortcut = PooledConv2d.of(block.shortcut)
