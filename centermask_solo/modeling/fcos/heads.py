"""The FCOS head: towers and predictors shared by all pyramid levels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import TOWER_NORMS, Scale, conv_tower, init_convs_normal_
from ..option_checks import check_choice, check_groups


class FCOSPredictions(NamedTuple):
    """The outputs of FCOS at every location of L levels."""

    class_logits: list[Tensor]  # L x (N, K, Hi, Wi)
    ltrb: list[Tensor]  # L x (N, 4, Hi, Wi), distances to left, top, right, bottom in strides, non-negative
    centerness_logits: list[Tensor]  # L x (N, 1, Hi, Wi)


class FCOSHead(nn.Module):
    """A class tower and a box tower, shared by all levels but for a learned scale of the box distances."""

    def __init__(
        self,
        *,
        in_channels: int,
        num_levels: int,
        num_classes: int,
        num_class_convs: int = 4,
        num_box_convs: int = 4,
        num_shared_convs: int = 0,
        norm: str = "GN",
        use_scale: bool = True,
        deformable: bool = False,
        prior_prob: float = 0.01,
    ) -> None:
        """
        Args:
            in_channels: Channels of every level, and width of the towers.
            num_levels: L.
            num_classes: K.
            num_class_convs: Convolutions of the class tower.
            num_box_convs: Convolutions of the box tower, which also feeds the centerness.
            num_shared_convs: Convolutions in front of both towers.
            norm: Normalization of the towers, "GN" or "none".
            use_scale: Whether each level scales its distances by a learned factor.
            deformable: Whether the shared and the box tower use modulated deformable convolutions.
            prior_prob: Class probability at initialization.

        Raises:
            ConfigError: The normalization is unknown, or does not fit the number of channels.
        """
        super().__init__()
        check_choice("MODEL.FCOS.NORM", norm, TOWER_NORMS)
        check_groups("MODEL.FPN.OUT_CHANNELS", in_channels, norm)
        kind = "all" if deformable else "none"
        self.share_tower = conv_tower(in_channels, in_channels, num_shared_convs, norm=norm, bias=True, deformable=kind)
        self.cls_tower = conv_tower(in_channels, in_channels, num_class_convs, norm=norm, bias=True)
        self.bbox_tower = conv_tower(in_channels, in_channels, num_box_convs, norm=norm, bias=True, deformable=kind)
        self.cls_logits = nn.Conv2d(in_channels, num_classes, 3, padding=1)
        self.bbox_pred = nn.Conv2d(in_channels, 4, 3, padding=1)
        self.ctrness = nn.Conv2d(in_channels, 1, 3, padding=1)
        self.scales = nn.ModuleList([Scale() if use_scale else nn.Identity() for _ in range(num_levels)])
        init_convs_normal_(self, std=0.01)
        nn.init.constant_(self.cls_logits.bias, -math.log((1 - prior_prob) / prior_prob))  # type: ignore[arg-type]

    def forward(self, features: Sequence[Tensor]) -> FCOSPredictions:
        """Return the predictions for ``features``, L x (N, C, Hi, Wi)."""
        predictions = FCOSPredictions([], [], [])
        for feature, scale in zip(features, self.scales, strict=True):
            shared = self.share_tower(feature)
            box_features = self.bbox_tower(shared)
            predictions.class_logits.append(self.cls_logits(self.cls_tower(shared)))
            predictions.ltrb.append(F.relu(scale(self.bbox_pred(box_features))))
            predictions.centerness_logits.append(self.ctrness(box_features))
        return predictions
