"""Feature pyramids on any bottom-up network: Detectron2's FPN with the top levels of each system."""

from __future__ import annotations

import math
from itertools import pairwise

import fvcore.nn.weight_init as weight_init
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.modeling import Backbone
from detectron2.modeling.backbone import FPN
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7
from torch import Tensor, nn

from ...utils.errors import ConfigError
from ..layers import init_conv_xavier_

__all__ = ["YOLACTFPN", "LastLevelP6", "build_fcos_fpn", "build_fpn", "build_yolact_fpn", "subsample_by_slices"]


class LastLevelP6(nn.Module):
    """One additional level for Detectron2's FPN: a 3x3 convolution of stride 2, key ``p6``."""

    num_levels = 1

    def __init__(self, in_channels: int, out_channels: int, in_feature: str) -> None:
        """
        Args:
            in_channels: Number of channels of the level that it reads.
            out_channels: Number of channels of the new level.
            in_feature: Name of the level that it reads.
        """
        super().__init__()
        self.in_feature = in_feature
        self.p6 = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
        weight_init.c2_xavier_fill(self.p6)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the new level, (N, out_channels, ceil(Hi / 2), ceil(Wi / 2)), as a list of one."""
        return [self.p6(x)]


class LastLevelSlices(LastLevelMaxPool):
    """Detectron2's P6, every second pixel of P5 in both directions, that can be exported for any size.

    Detectron2 writes it as a pooling, of which exports by PyTorch 2.11 take for granted that sizes stay odd, or even.
    """

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the new level, (N, C, ceil(Hi / 2), ceil(Wi / 2)), in the layout of ``x``, as a list of one."""
        is_channels_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        layout = torch.channels_last if is_channels_last else torch.contiguous_format
        # Not slices of channels-last maps, whose strides are compared in a way that depends on the parity, too.
        return [x.contiguous()[:, :, ::2, ::2].contiguous(memory_format=layout)]


def subsample_by_slices(backbone: Backbone) -> Backbone:
    """Return a backbone, of which Detectron2's ``LastLevelMaxPool`` becomes :class:`LastLevelSlices` in place."""
    if type(getattr(backbone, "top_block", None)) is LastLevelMaxPool:
        backbone.top_block = LastLevelSlices()
    return backbone


def check_in_features(cfg: CfgNode, bottom_up: Backbone) -> None:
    """Raise ConfigError unless ``MODEL.FPN.IN_FEATURES`` names features of ``bottom_up``, whose strides double."""
    given = list(bottom_up.output_shape())
    for name in cfg.MODEL.FPN.IN_FEATURES or ["(nothing)"]:
        if name not in given:
            raise ConfigError(
                f"MODEL.FPN.IN_FEATURES names {name}, but the backbone gives {', '.join(given)}: name some of these, "
                "or add it to the OUT_FEATURES of the backbone"
            )
    strides = [bottom_up.output_shape()[name].stride for name in cfg.MODEL.FPN.IN_FEATURES]
    if any(b != 2 * a for a, b in pairwise(strides)):
        raise ConfigError(
            f"MODEL.FPN.IN_FEATURES names features of strides {', '.join(map(str, strides))}: each must be twice the "
            "one before"
        )


def build_fpn(cfg: CfgNode, bottom_up: Backbone, top_block: nn.Module | None) -> FPN:
    """Return Detectron2's FPN over the features of ``bottom_up`` that ``MODEL.FPN.IN_FEATURES`` names.

    Raises:
        ConfigError: ``bottom_up`` lacks one of these features, or none is named.
    """
    check_in_features(cfg, bottom_up)
    return FPN(
        bottom_up=bottom_up,
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=top_block,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


def build_fcos_fpn(cfg: CfgNode, bottom_up: Backbone) -> FPN:
    """Return the FPN of FCOS: with ``MODEL.FCOS.TOP_LEVELS`` (2, 1 or 0) levels P6 and P7 computed from P5.

    P7 is computed from ReLU(P6), but P6 itself is returned without the ReLU.

    Raises:
        ConfigError: The number of levels is not 0, 1 or 2, or the features are wrong.
    """
    shapes, channels = bottom_up.output_shape(), cfg.MODEL.FPN.OUT_CHANNELS
    strides = [shapes[name].stride for name in cfg.MODEL.FPN.IN_FEATURES if name in shapes]
    last = f"p{int(math.log2(max(strides, default=1)))}"
    num_levels = cfg.MODEL.FCOS.TOP_LEVELS
    if num_levels == 2:
        return build_fpn(cfg, bottom_up, LastLevelP6P7(channels, channels, in_feature=last))
    if num_levels == 1:
        return build_fpn(cfg, bottom_up, LastLevelP6(channels, channels, in_feature=last))
    if num_levels == 0:
        return build_fpn(cfg, bottom_up, None)
    raise ConfigError(f"MODEL.FCOS.TOP_LEVELS must be 2 (P6 and P7), 1 (P6) or 0, not {num_levels}")


class YOLACTTopLevels(LastLevelP6P7):
    """The levels P6 and P7 of YOLACT: Detectron2's convolutions ``p6`` and ``p7``, without a ReLU between them."""

    def forward(self, c5: Tensor) -> list[Tensor]:
        """Return P6 and P7, (N, C, ceil(Hi / 2), ceil(Wi / 2)) and half of that, from ``c5``, P5 after its ReLU."""
        p6 = self.p6(c5)
        return [p6, self.p7(p6)]


class YOLACTFPN(FPN):
    """The pyramid of YOLACT, with the parameters of Detectron2's FPN.

    Coarser maps are upsampled bilinearly to the exact size of the finer one, which need not be twice as large; a ReLU
    follows the output convolutions; and the input is not padded. P6 and P7 are computed from P5.

    Source: YOLACT (arXiv 1904.02689), section 4, and its published code.
    """

    def __init__(self, bottom_up: Backbone, in_features: list[str], out_channels: int) -> None:
        """
        Args:
            bottom_up: The network below.
            in_features: Names of its maps, finest first; strides 8, 16 and 32 in all published models.
            out_channels: Number of channels of every level.
        """
        last = f"p{int(math.log2(bottom_up.output_shape()[in_features[-1]].stride))}"
        top_block = YOLACTTopLevels(out_channels, out_channels, in_feature=last)
        super().__init__(bottom_up, in_features, out_channels, top_block=top_block)
        for conv in (*self.lateral_convs, *self.output_convs, top_block.p6, top_block.p7):
            init_conv_xavier_(conv)

    @property
    def size_divisibility(self) -> int:
        """0: no padding."""
        return 0

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the levels of a batch (N, 3, T_h, T_w) by name: (N, C, Hi, Wi) each."""
        features = self.bottom_up(x)
        levels: list[Tensor] = []
        merged: Tensor | None = None
        # Detectron2 keeps both lists of convolutions from coarse to fine.
        for name, lateral, output in zip(self.in_features[::-1], self.lateral_convs, self.output_convs, strict=True):
            side = lateral(features[name])
            if merged is not None:
                side = side + F.interpolate(merged, side.shape[-2:], mode="bilinear", align_corners=False)
            merged = side
            levels.insert(0, F.relu(output(merged)))
        levels.extend(self.top_block(levels[-1]))
        return dict(zip(self._out_features, levels, strict=True))


def build_yolact_fpn(cfg: CfgNode, bottom_up: Backbone) -> YOLACTFPN:
    """Return the pyramid of YOLACT over the features of ``bottom_up`` that ``MODEL.FPN.IN_FEATURES`` names.

    Raises:
        ConfigError: ``bottom_up`` lacks one of these features, or none is named.
    """
    check_in_features(cfg, bottom_up)
    return YOLACTFPN(bottom_up, cfg.MODEL.FPN.IN_FEATURES, cfg.MODEL.FPN.OUT_CHANNELS)
