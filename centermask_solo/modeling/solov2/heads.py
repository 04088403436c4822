"""The two heads of SOLOv2: one for the cells of the grids, one for the mask features.

Submodules carry the names of AdelaiDet's checkpoints (``cate_tower``, ``convs_all_levels``, ...), so that its files
load as they are.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from ...ops.grids import append_coordinates
from ..layers import DeformConv2d, conv_tower, init_convs_normal_


class SOLOv2InstanceHead(nn.Module):
    """Class logits and mask kernels for each cell of each level's grid, by two towers that all levels share.

    Source: SOLOv2 (arXiv 2003.10152), section 3.1; sizes and order of operations as in AdelaiDet.
    Differs: the level sizes follow from the strides, which for P2..P6 and strides 8, 8, 16, 32, 32 gives AdelaiDet's
    (P2 halved, P6 enlarged to P5's size) and allows any other number of levels.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        in_strides: Sequence[int],
        level_strides: Sequence[int],
        num_grids: Sequence[int],
        num_classes: int,
        kernel_length: int,
        channels: int = 512,
        num_convs: int = 4,
        norm: str = "GN",
        deformable: str = "none",
        modulated: bool = True,
        prior_prob: float = 0.01,
    ) -> None:
        """
        Args:
            in_channels: channels of every input feature map.
            in_strides: strides of the input feature maps, in pixels.
            level_strides: strides that they are resized to before the coordinates are appended, in pixels.
            num_grids: cells a side S of each level's grid.
            num_classes: foreground classes K.
            kernel_length: length E of a kernel.
            channels: width of both towers.
            num_convs: convolutions in each tower.
            norm: "GN" (32 groups) or "none".
            deformable: which convolutions of each tower are deformable: "none", "last" or "all".
            modulated: deformable convolutions are v2 (with modulation) rather than v1.
            prior_prob: class probability of a cell at initialization.

        Raises:
            ValueError: an unknown ``norm`` or ``deformable``, or channels that 32 groups cannot share.
        """
        super().__init__()
        self.in_strides = list(in_strides)
        self.level_strides = list(level_strides)
        self.num_grids = list(num_grids)

        tower = partial(
            conv_tower,
            channels=channels,
            num_convs=num_convs,
            norm=norm,
            bias=norm == "none",
            deformable=deformable,
            modulated=modulated,
        )
        self.cate_tower = tower(in_channels)
        self.kernel_tower = tower(in_channels + 2)  # x and y
        self.cate_pred = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.kernel_pred = nn.Conv2d(channels, kernel_length, 3, padding=1)
        init_convs_normal_(self)
        nn.init.constant_(self.cate_pred.bias, -math.log((1 - prior_prob) / prior_prob))  # type: ignore[arg-type]

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """The class logits and the kernels of all cells.

        Args:
            features: L feature maps (N, C, Hi, Wi) with the strides ``in_strides``.

        Returns:
            Class logits, L x (N, K, S, S), and kernels, L x (N, E, S, S), in the order of ``features``.
        """
        class_logits, kernels = [], []
        for level, size in zip(self._resize_levels(features), self.num_grids, strict=True):
            # The coordinates are appended first and resized with the features, as the published weights expect.
            cells = F.interpolate(append_coordinates(level), (size, size), mode="bilinear", align_corners=False)
            kernels.append(self.kernel_pred(self.kernel_tower(cells)))
            class_logits.append(self.cate_pred(self.cate_tower(cells[:, : level.shape[1]])))
        return class_logits, kernels

    def _resize_levels(self, features: list[Tensor]) -> list[Tensor]:
        """The feature maps at ``level_strides``: one whose stride is right already stays as it is."""
        height, width = (side * self.in_strides[0] for side in features[0].shape[-2:])
        levels = []
        for x, in_stride, stride in zip(features, self.in_strides, self.level_strides, strict=True):
            size = (max(height // stride, 1), max(width // stride, 1))
            resized = x if stride == in_stride else F.interpolate(x, size, mode="bilinear", align_corners=False)
            levels.append(resized)
        return levels


def _conv_norm_relu(
    in_channels: int, out_channels: int, *, kernel_size: int, norm: str, deformable: bool, modulated: bool
) -> nn.Sequential:
    """Convolution, normalization ("GN" or "none"), ReLU: keeps the size of its input."""
    if norm not in ("GN", "none"):
        raise ValueError(f'The normalization of the mask head must be "GN" or "none", not {norm!r}.')
    padding = kernel_size // 2
    layers: list[nn.Module] = []
    if deformable:
        layers.append(
            DeformConv2d(in_channels, out_channels, kernel_size, padding=padding, modulated=modulated, bias=False)
        )
    else:
        layers.append(nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, bias=norm == "none"))
    if norm == "GN":
        layers.append(nn.GroupNorm(32, out_channels))
    return nn.Sequential(*layers, nn.ReLU(inplace=True))


class SOLOv2MaskHead(nn.Module):
    """The mask features: all levels brought to the first one's size and added, then one 1x1 convolution.

    Source: SOLOv2 (arXiv 2003.10152), section 3.2.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_levels: int,
        channels: int = 128,
        kernel_length: int = 256,
        norm: str = "GN",
        deformable: bool = False,
        modulated: bool = True,
    ) -> None:
        """
        Args:
            in_channels: channels of every input feature map.
            num_levels: input feature maps, each with twice the stride of the one before.
            channels: width of the head.
            kernel_length: channels E of the mask features.
            norm: "GN" (32 groups) or "none".
            deformable: all convolutions are deformable, the last 1x1 included.
            modulated: deformable convolutions are v2 (with modulation) rather than v1.

        Raises:
            ValueError: an unknown ``norm``, or channels that 32 groups cannot share.
        """
        super().__init__()

        step = partial(_conv_norm_relu, norm=norm, deformable=deformable, modulated=modulated)
        self.convs_all_levels = nn.ModuleList()
        for level in range(num_levels):
            level_in_channels = in_channels + 2 if level == num_levels - 1 else in_channels  # x and y for the last
            chain: OrderedDict[str, nn.Module] = OrderedDict()
            for j in range(max(level, 1)):
                chain[f"conv{j}"] = step(level_in_channels if j == 0 else channels, channels, kernel_size=3)
                if level > 0:
                    chain[f"upsample{j}"] = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
            self.convs_all_levels.append(nn.Sequential(chain))
        self.conv_pred = step(channels, kernel_length, kernel_size=1)
        init_convs_normal_(self)

    def forward(self, features: list[Tensor]) -> Tensor:
        """The mask features, (N, E, H0, W0) and non-negative, of the first feature map's size.

        Args:
            features: maps (N, C, Hi, Wi), finest first; each must be exactly half as large as the one before.
        """
        inputs = [*features[:-1], append_coordinates(features[-1])]
        levels = [chain(x) for chain, x in zip(self.convs_all_levels, inputs, strict=True)]
        return self.conv_pred(sum(levels[1:], start=levels[0]))
