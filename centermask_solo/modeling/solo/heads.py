"""The networks of SOLO, Decoupled SOLO and its light version on top of the pyramid.

Submodules are named as in SOLOv2's instance head where they do the same (``cate_tower``, ``cate_pred``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...ops.grids import append_coordinates, coordinate_channels
from ...utils.errors import ConfigError
from ..layers import init_convs_normal_, scale_coordinates_
from ..solov2.grid_head import GridHead
from .predictions import DecoupledPredictions, Predictions, SOLOPredictions, double

KEY = "MODEL.SOLO"


class CellMasksHead(GridHead):
    """The part that all heads share: class logits of each cell of each level's grid, and what masks start from.

    Source: SOLO (arXiv 1912.04488), section 3; sizes and order of operations as in the published code.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        level_strides: Sequence[int],
        num_classes: int,
        channels: int = 256,
        num_convs: int = 7,
        modulated: bool = False,
        prior_prob: float = 0.01,
        coordinate_init: float = 1.0,
        **grid_options: Any,
    ) -> None:
        """
        Args:
            in_channels: Number of channels of every input feature map.
            level_strides: Strides to which they are resized, multiples of 8 input pixels. Masks have half of it.
            num_classes: Number of foreground classes K.
            channels: Width of all towers.
            num_convs: Number of convolutions in each tower.
            modulated: Whether deformable convolutions are v2 (with modulation) instead of v1.
            prior_prob: Probability of a class, and of a mask's pixels, at initialization.
            coordinate_init: Factor of the initial weights of the coordinates.
            grid_options: The other arguments of :class:`GridHead`.

        Raises:
            ConfigError: An argument is out of range, or the numbers of levels differ.
        """
        super().__init__(
            key=KEY,
            in_channels=in_channels,
            level_strides=level_strides,
            num_classes=num_classes,
            channels=channels,
            num_convs=num_convs,
            modulated=modulated,
            **grid_options,
        )
        if any(stride % 8 for stride in level_strides):
            raise ConfigError(f"{KEY}.STRIDES must be multiples of 8, not {list(level_strides)}")
        self.cate_pred = nn.Conv2d(channels, num_classes, 3, padding=1)
        for name, num_coordinates in self.mask_towers.items():
            self.add_module(name, self.make_tower(in_channels + num_coordinates))
        self.add_mask_outputs(channels)
        init_convs_normal_(self)
        for name, num_coordinates in self.mask_towers.items():
            scale_coordinates_(self.get_submodule(name), num_coordinates, coordinate_init)
        for name, parameter in self.named_parameters():
            if "_pred" in name and name.endswith(".bias"):
                nn.init.constant_(parameter, -math.log((1 - prior_prob) / prior_prob))

    # Names of the mask towers, and how many coordinate channels each one's input has.
    mask_towers: ClassVar[Mapping[str, int]]

    def add_mask_outputs(self, channels: int) -> None:
        """Add the convolutions behind the mask towers."""
        raise NotImplementedError

    def forward(self, features: list[Tensor]) -> Predictions:
        """Return the predictions of a batch.

        Args:
            features: L feature maps (N, C, Hi, Wi) with the strides ``in_strides``.
        """
        levels = self.resize(features)
        class_logits = []
        for level, side in zip(levels, self.num_grids, strict=True):
            cells = F.interpolate(level, (side, side), mode="bilinear", align_corners=False)
            class_logits.append(self.cate_pred(self.drop_block(self.cate_tower(cells))))
        return self.predict_masks(class_logits, levels)

    def predict_masks(self, class_logits: list[Tensor], levels: list[Tensor]) -> Predictions:
        """Return the predictions, given the class logits and the levels (N, C, Hi, Wi) at ``level_strides``."""
        raise NotImplementedError


class SOLOHead(CellMasksHead):
    """SOLO: each level has one mask map for each cell."""

    mask_towers: ClassVar[Mapping[str, int]] = {"mask_tower": 2}

    def add_mask_outputs(self, channels: int) -> None:
        """Add a 1x1 convolution per level, whose output ``i * S + j`` is the mask of the cell in row i and column j."""
        self.mask_pred = nn.ModuleList(nn.Conv2d(channels, s * s, 1) for s in self.num_grids)

    def predict_masks(self, class_logits: list[Tensor], levels: list[Tensor]) -> SOLOPredictions:
        """Return the predictions, with the convolutions of ``mask_pred`` left to be done for single cells."""
        convs = [conv for conv in self.mask_pred if isinstance(conv, nn.Conv2d)]
        return SOLOPredictions(
            class_logits,
            [self.drop_block(self.mask_tower(append_coordinates(level))) for level in levels],  # type: ignore[operator]
            [conv.weight for conv in convs],
            [conv.bias for conv in convs if conv.bias is not None],
        )


class DecoupledSOLOHead(CellMasksHead):
    """Decoupled SOLO: each level has a mask map for each column and one for each row, from towers of their own."""

    mask_towers: ClassVar[Mapping[str, int]] = {"mask_tower_x": 1, "mask_tower_y": 1}

    def add_mask_outputs(self, channels: int) -> None:
        """Add two 3x3 convolutions per level: S columns and S rows."""
        for name in ("mask_pred_x", "mask_pred_y"):
            self.add_module(name, nn.ModuleList(nn.Conv2d(channels, s, 3, padding=1) for s in self.num_grids))

    def predict_masks(self, class_logits: list[Tensor], levels: list[Tensor]) -> DecoupledPredictions:
        """Return the predictions; the tower of the columns knows x only, and that of the rows y."""
        columns, rows = [], []
        for i, level in enumerate(levels):
            for_columns, for_rows = self.tower_features(level)
            columns.append(self.mask_pred_x[i](for_columns))  # type: ignore[index, operator]
            rows.append(self.mask_pred_y[i](for_rows))  # type: ignore[index, operator]
        return DecoupledPredictions(class_logits, columns, rows)

    def tower_features(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the maps of the columns and of the rows are computed from, at twice the size of ``level``."""
        channels = coordinate_channels(*level.shape[-2:], device=level.device, dtype=level.dtype)
        x, y = (c.expand(level.shape[0], 1, -1, -1) for c in channels)
        return (
            double(self.drop_block(self.mask_tower_x(torch.cat((level, x), dim=1)))),  # type: ignore[operator]
            double(self.drop_block(self.mask_tower_y(torch.cat((level, y), dim=1)))),  # type: ignore[operator]
        )


class DecoupledLightSOLOHead(DecoupledSOLOHead):
    """The light version of Decoupled SOLO: columns and rows share one tower, which knows x and y."""

    mask_towers: ClassVar[Mapping[str, int]] = {"mask_tower": 2}

    def tower_features(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same features twice."""
        features = double(self.drop_block(self.mask_tower(append_coordinates(level))))  # type: ignore[operator]
        return features, features


HEADS: dict[str, type[CellMasksHead]] = {
    "plain": SOLOHead,
    "decoupled": DecoupledSOLOHead,
    "decoupled_light": DecoupledLightSOLOHead,
}
