"""The networks of YOLACT on top of its pyramid: prototypes, the head of all levels, and two that help training."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import init_conv_xavier_

MASK_IOU_CHANNELS = (8, 16, 32, 64, 128)  # of YOLACT++'s mask IoU head, each layer halving the size
INITIAL_MASK_IOU = 0.5  # that an untrained head predicts, about


class YOLACTProtonet(nn.Module):
    """The prototypes of an image, never negative, at twice the size of the feature map that they come from.

    Source: YOLACT (arXiv 1904.02689), section 3.1 and figure 3.
    """

    def __init__(self, *, in_channels: int, num_prototypes: int = 32, channels: int = 256) -> None:
        """
        Args:
            in_channels: C of the feature map.
            num_prototypes: E.
            channels: width of the network.
        """
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv3 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv4 = nn.Conv2d(channels, channels, 3, padding=1)
        self.prototypes = nn.Conv2d(channels, num_prototypes, 1)
        for conv in self.children():
            init_conv_xavier_(conv)

    def forward(self, feature: Tensor) -> Tensor:
        """The prototypes, (N, E, 2 Hi, 2 Wi), from ``feature`` (N, C, Hi, Wi)."""
        x = F.relu(self.conv1(feature))
        x = F.relu(self.conv2(x))
        x = F.relu(self.conv3(x))
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = F.relu(self.conv4(x))
        return F.relu(self.prototypes(x))


class YOLACTHead(nn.Module):
    """Box, classes and mask coefficients of every anchor, by convolutions that all levels share.

    Source: YOLACT (arXiv 1904.02689), section 3.2 and figure 4.
    """

    def __init__(self, *, in_channels: int, num_classes: int, num_anchors: int, num_prototypes: int = 32) -> None:
        """
        Args:
            in_channels: C of the levels, and the width of the head.
            num_classes: foreground classes K; the background comes on top, as index 0.
            num_anchors: of each cell.
            num_prototypes: E.
        """
        super().__init__()
        self.conv = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.box_pred = nn.Conv2d(in_channels, num_anchors * 4, 3, padding=1)
        self.class_logits = nn.Conv2d(in_channels, num_anchors * (num_classes + 1), 3, padding=1)
        self.mask_coefficients = nn.Conv2d(in_channels, num_anchors * num_prototypes, 3, padding=1)
        self.num_anchors = num_anchors
        for conv in self.children():
            init_conv_xavier_(conv)

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Box deltas (N, R, 4), class logits (N, R, K + 1), the background first, and coefficients (N, R, E).

        Anchors run through levels, rows, columns and the anchors of a cell, the last fastest.

        Args:
            features: L x (N, C, Hi, Wi).
        """
        shared = [F.relu(self.conv(x)) for x in features]
        deltas, logits, coefficients = (
            torch.cat([self._by_anchor(layer(x)) for x in shared], dim=1)
            for layer in (self.box_pred, self.class_logits, self.mask_coefficients)
        )
        return deltas, logits, coefficients.tanh()

    def _by_anchor(self, x: Tensor) -> Tensor:
        """A map (N, A * C, Hi, Wi) as (N, Hi * Wi * A, C)."""
        return x.permute(0, 2, 3, 1).reshape(len(x), -1, x.shape[1] // self.num_anchors)


class YOLACTSemSegHead(nn.Module):
    """Class logits of every pixel of a feature map, for a loss that improves the features; used in training alone.

    Source: YOLACT (arXiv 1904.02689), section 5.
    """

    def __init__(self, *, in_channels: int, num_classes: int) -> None:
        """
        Args:
            in_channels: C of the feature map.
            num_classes: foreground classes K.
        """
        super().__init__()
        self.predictor = nn.Conv2d(in_channels, num_classes, 1)
        init_conv_xavier_(self.predictor)

    def forward(self, feature: Tensor) -> Tensor:
        """The logits, (N, K, Hi, Wi), from ``feature`` (N, C, Hi, Wi)."""
        return self.predictor(feature)


class YOLACTMaskIoUHead(nn.Module):
    """Predicts the IoU of a mask with the truth from the mask alone.

    Source: YOLACT++ (arXiv 1912.06218), section 3.4; layers, the last ReLU and the maximum as in the published code.
    Differs: at the beginning the head predicts about 0.5, not 0, where a first step too many closes a class's last ReLU
        for good.
    """

    def __init__(self, *, num_classes: int) -> None:
        """
        Args:
            num_classes: foreground classes K.
        """
        super().__init__()
        in_channels = 1
        self.num_convs = len(MASK_IOU_CHANNELS)
        for i, channels in enumerate(MASK_IOU_CHANNELS):
            self.add_module(f"conv{i + 1}", nn.Conv2d(in_channels, channels, 3, stride=2))
            in_channels = channels
        self.predictor = nn.Conv2d(in_channels, num_classes, 1)
        for conv in self.children():
            init_conv_xavier_(conv)
        nn.init.constant_(self.predictor.bias, INITIAL_MASK_IOU)  # type: ignore[arg-type]

    @property
    def smallest_mask(self) -> int:
        """Pixels a side of the smallest mask that the convolutions, which are not padded, leave something of."""
        return 2 ** (self.num_convs + 1) - 1

    def forward(self, masks: Tensor, classes: Tensor) -> Tensor:
        """The predicted IoU of each mask, (M,), not negative, but not limited to 1.

        Args:
            masks: (M, h, w) probabilities, 0 outside of the mask's box; at least :attr:`smallest_mask` pixels a side.
            classes: (M,) int64, the class of each mask.
        """
        x = masks[:, None]
        for i in range(self.num_convs):
            x = F.relu(self.get_submodule(f"conv{i + 1}")(x))
        ious = F.relu(self.predictor(x)).amax(dim=(2, 3))
        return ious.gather(1, classes[:, None])[:, 0]
