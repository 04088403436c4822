"""The networks of SOLOv2 on top of the pyramid: the instance head of the grid cells, and the mask head.

Submodules have the names of AdelaiDet's checkpoints (``cate_tower``, ``convs_all_levels``, ...), which load unchanged.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from ...ops.grids import append_coordinates
from ...utils.errors import ConfigError
from ..layers import TOWER_NORMS, DeformConv2d, init_convs_normal_, scale_coordinates_
from ..option_checks import check_choice, check_groups
from .grid_head import GridHead
from .ground_truth import MASK_STRIDE

KEY = "MODEL.SOLOV2"


class SOLOv2Predictions(NamedTuple):
    """What SOLOv2's networks compute for a batch.

    Attributes:
        class_logits: L x (N, K, S, S).
        kernels: L x (N, E, S, S).
        mask_features: (N, E, T_h / 4, T_w / 4); the mask logits of a cell are its kernel times these.
    """

    class_logits: list[Tensor]
    kernels: list[Tensor]
    mask_features: Tensor


class SOLOv2InstanceHead(GridHead):
    """Class logits and mask kernels of each cell of each level's grid, from two towers shared by all levels.

    Source: SOLOv2 (arXiv 2003.10152), section 3.1; sizes and order of operations as in AdelaiDet.
    Differs: level sizes follow from the strides. For P2..P6 and strides 8, 8, 16, 32, 32 they are AdelaiDet's (P2
        halved, P6 enlarged to the size of P5); any other number of levels works, too.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        kernel_length: int,
        channels: int = 512,
        num_convs: int = 4,
        modulated: bool = True,
        prior_prob: float = 0.01,
        coordinate_init: float = 1.0,
        **grid_options: Any,
    ) -> None:
        """
        Args:
            in_channels: Number of channels of every input feature map.
            num_classes: Number of foreground classes K.
            kernel_length: Length E of a kernel.
            channels: Width of both towers.
            num_convs: Number of convolutions in each tower.
            modulated: Whether deformable convolutions are v2 (with modulation) instead of v1.
            prior_prob: Class probability of a cell at initialization.
            coordinate_init: Factor of the initial weights of the coordinates.
            grid_options: The other arguments of :class:`GridHead`.

        Raises:
            ConfigError: An argument is out of range, or the numbers of levels differ.
        """
        super().__init__(
            key=KEY,
            in_channels=in_channels,
            num_classes=num_classes,
            channels=channels,
            num_convs=num_convs,
            modulated=modulated,
            **grid_options,
        )
        self.kernel_tower = self.make_tower(in_channels + 2)  # x and y
        self.cate_pred = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.kernel_pred = nn.Conv2d(channels, kernel_length, 3, padding=1)
        init_convs_normal_(self)
        scale_coordinates_(self.kernel_tower, 2, coordinate_init)
        nn.init.constant_(self.cate_pred.bias, -math.log((1 - prior_prob) / prior_prob))  # type: ignore[arg-type]

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the class logits and the kernels of all cells.

        Args:
            features: L feature maps (N, C, Hi, Wi) with the strides ``in_strides``.

        Returns:
            Class logits, L x (N, K, S, S), and kernels, L x (N, E, S, S), in the order of ``features``.
        """
        class_logits, kernels = [], []
        for level, size in zip(self.resize(features), self.num_grids, strict=True):
            # Coordinates are appended before resizing, as the published weights expect.
            cells = F.interpolate(append_coordinates(level), (size, size), mode="bilinear", align_corners=False)
            kernels.append(self.kernel_pred(self.drop_block(self.kernel_tower(cells))))
            class_logits.append(self.cate_pred(self.drop_block(self.cate_tower(cells[:, : level.shape[1]]))))
        return class_logits, kernels


def _conv_norm_relu(
    in_channels: int, out_channels: int, *, kernel_size: int, norm: str, deformable: bool, modulated: bool
) -> nn.Sequential:
    """Return a convolution, normalization ("GN" or "none") and ReLU that keep the size of their input."""
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
    """The mask features: all levels upsampled to the size of the first one and added, then a 1x1 convolution.

    Source: SOLOv2 (arXiv 2003.10152), section 3.2.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        in_strides: Sequence[int],
        channels: int = 128,
        kernel_length: int = 256,
        norm: str = "GN",
        deformable: bool = False,
        modulated: bool = True,
        coordinate_init: float = 1.0,
    ) -> None:
        """
        Args:
            in_channels: Number of channels of every input feature map.
            in_strides: Strides of the input feature maps: 4, 8, 16, ... input pixels.
            channels: Width of the head.
            kernel_length: Number of channels E of the mask features.
            norm: "GN" (32 groups) or "none".
            deformable: Whether all convolutions are deformable, including the last 1x1.
            modulated: Whether deformable convolutions are v2 (with modulation) instead of v1.
            coordinate_init: Factor of the initial weights of the coordinates.

        Raises:
            ConfigError: An argument is out of range.
        """
        super().__init__()
        num_levels = len(in_strides)
        if list(in_strides) != [MASK_STRIDE * 2**i for i in range(num_levels)]:
            raise ConfigError(
                f"{KEY}.MASK_IN_FEATURES must name feature maps of strides 4, 8, 16, ... in order, not {in_strides}"
            )
        check_choice(f"{KEY}.NORM", norm, TOWER_NORMS)
        check_groups(f"{KEY}.MASK_CHANNELS", channels, norm)
        check_groups(f"{KEY}.NUM_MASKS", kernel_length, norm)

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
        scale_coordinates_(self.convs_all_levels[-1], 2, coordinate_init)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Return the mask features, (N, E, H0, W0) and non-negative, at the size of the first feature map.

        Args:
            features: Maps (N, C, Hi, Wi), finest first; each must be exactly half as large as the previous one.
        """
        inputs = [*features[:-1], append_coordinates(features[-1])]
        levels = [chain(x) for chain, x in zip(self.convs_all_levels, inputs, strict=True)]
        return self.conv_pred(sum(levels[1:], start=levels[0]))
