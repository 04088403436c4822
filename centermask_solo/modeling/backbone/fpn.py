"""Feature pyramids on any bottom-up network: Detectron2's FPN, with the top levels that each system needs."""

from __future__ import annotations

import math

import fvcore.nn.weight_init as weight_init
from detectron2.config import CfgNode
from detectron2.modeling import Backbone
from detectron2.modeling.backbone import FPN
from detectron2.modeling.backbone.fpn import LastLevelP6P7
from torch import Tensor, nn

__all__ = ["LastLevelP6", "build_fcos_fpn", "build_fpn"]


class LastLevelP6(nn.Module):
    """One further level for Detectron2's FPN: a 3x3 convolution of stride 2, key ``p6``."""

    num_levels = 1

    def __init__(self, in_channels: int, out_channels: int, in_feature: str) -> None:
        """
        Args:
            in_channels: C of the level that it reads.
            out_channels: C of the new level.
            in_feature: name of the level that it reads.
        """
        super().__init__()
        self.in_feature = in_feature
        self.p6 = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
        weight_init.c2_xavier_fill(self.p6)

    def forward(self, x: Tensor) -> list[Tensor]:
        """The new level, (N, out_channels, ceil(Hi / 2), ceil(Wi / 2)), as a list of one."""
        return [self.p6(x)]


def build_fpn(cfg: CfgNode, bottom_up: Backbone, top_block: nn.Module | None) -> FPN:
    """Detectron2's FPN over the features of ``bottom_up`` that ``MODEL.FPN.IN_FEATURES`` names.

    Raises:
        ValueError: ``bottom_up`` does not give one of these features, or none is named.
    """
    given = list(bottom_up.output_shape())
    for name in cfg.MODEL.FPN.IN_FEATURES or ["(nothing)"]:
        if name not in given:
            raise ValueError(
                f"MODEL.FPN.IN_FEATURES names {name}, but the backbone gives {', '.join(given)}: name some of these, "
                "or add it to the backbone's OUT_FEATURES"
            )
    return FPN(
        bottom_up=bottom_up,
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=top_block,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


def build_fcos_fpn(cfg: CfgNode, bottom_up: Backbone) -> FPN:
    """The FPN of FCOS: ``MODEL.FCOS.TOP_LEVELS`` (2, 1 or 0) levels P6 and P7 computed from the P5 output.

    P7 is computed from ReLU(P6), but P6 itself is given without the ReLU.

    Raises:
        ValueError: any other number of levels.
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
    raise ValueError(f"MODEL.FCOS.TOP_LEVELS must be 2 (P6 and P7), 1 (P6) or 0, not {num_levels}")
