"""The networks of YOLACT on top of its pyramid: prototypes, shared head, semantic segmentation, mask IoU."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...ops.levels import flatten_levels
from ..layers import init_conv_xavier_
from ..option_checks import check_at_least

KEY = "MODEL.YOLACT"
MASK_IOU_CHANNELS = (8, 16, 32, 64, 128)  # of YOLACT++'s mask IoU head; each layer halves the size
INITIAL_MASK_IOU = 0.5  # what an untrained head predicts, approximately


class YOLACTPredictions(NamedTuple):
    """What YOLACT's networks compute for a batch.

    Attributes:
        class_logits: (N, R, K + 1), background first; anchors by level, row, column, anchor of the cell.
        box_deltas: (N, R, 4), relative to ``anchors``.
        mask_coefficients: (N, R, E), in -1..1.
        prototypes: (N, E, h, w); the mask logits of an anchor are its coefficients times these.
        anchors: (R, 4) float32, x0 y0 x1 y1 in fractions of the input.
        sem_seg_logits: (N, K, Hi, Wi), only for training; else None.
    """

    class_logits: Tensor
    box_deltas: Tensor
    mask_coefficients: Tensor
    prototypes: Tensor
    anchors: Tensor
    sem_seg_logits: Tensor | None = None

    def raw_outputs(self) -> dict[str, Tensor]:
        """Return what servers of the published code's exports expect, in that order and layout.

        ``loc`` (N, R, 4), the box deltas; ``conf`` (N, R, K + 1), probabilities with the background first;
        ``coefficients`` (N, R, E); ``priors`` (R, 4), centers x and y, widths and heights in fractions of the input;
        ``prototypes`` (N, h, w, E).
        """
        low, high = self.anchors[:, :2], self.anchors[:, 2:]
        return {
            "loc": self.box_deltas,
            "conf": self.class_logits.softmax(dim=2),
            "coefficients": self.mask_coefficients,
            "priors": torch.cat([(low + high) / 2, high - low], dim=1),
            "prototypes": self.prototypes.permute(0, 2, 3, 1),
        }


class YOLACTProtonet(nn.Module):
    """The prototypes of an image, non-negative, at twice the size of the feature map that they are computed from.

    Source: YOLACT (arXiv 1904.02689), section 3.1 and figure 3.
    """

    def __init__(self, *, in_channels: int, num_prototypes: int = 32, channels: int = 256) -> None:
        """
        Args:
            in_channels: Number of channels of the feature map.
            num_prototypes: E.
            channels: Width of the network.
        """
        super().__init__()
        check_at_least(f"{KEY}.NUM_PROTOTYPES", num_prototypes, 1)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv3 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv4 = nn.Conv2d(channels, channels, 3, padding=1)
        self.prototypes = nn.Conv2d(channels, num_prototypes, 1)
        for conv in self.children():
            init_conv_xavier_(conv)

    def forward(self, feature: Tensor) -> Tensor:
        """Return the prototypes, (N, E, 2 Hi, 2 Wi), from ``feature`` (N, C, Hi, Wi)."""
        x = F.relu(self.conv1(feature))
        x = F.relu(self.conv2(x))
        x = F.relu(self.conv3(x))
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = F.relu(self.conv4(x))
        return F.relu(self.prototypes(x))


class YOLACTHead(nn.Module):
    """Box, classes and mask coefficients of every anchor, from convolutions shared by all levels.

    Source: YOLACT (arXiv 1904.02689), section 3.2 and figure 4.
    """

    def __init__(self, *, in_channels: int, num_classes: int, num_anchors: int, num_prototypes: int = 32) -> None:
        """
        Args:
            in_channels: Number of channels of the levels, and width of the head.
            num_classes: Number of foreground classes K; the background is an additional class with index 0.
            num_anchors: Number of anchors per cell.
            num_prototypes: E.
        """
        super().__init__()
        check_at_least(f"{KEY}.NUM_CLASSES", num_classes, 1)
        self.conv = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.box_pred = nn.Conv2d(in_channels, num_anchors * 4, 3, padding=1)
        self.class_logits = nn.Conv2d(in_channels, num_anchors * (num_classes + 1), 3, padding=1)
        self.mask_coefficients = nn.Conv2d(in_channels, num_anchors * num_prototypes, 3, padding=1)
        self.num_anchors = num_anchors
        for conv in self.children():
            init_conv_xavier_(conv)

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return box deltas (N, R, 4), class logits (N, R, K + 1), background first, and coefficients (N, R, E).

        Anchors run through levels, rows, columns and the anchors of a cell, the last fastest.

        Args:
            features: L x (N, C, Hi, Wi).
        """
        shared = [F.relu(self.conv(x)) for x in features]
        deltas, logits, coefficients = (
            self._by_anchor(flatten_levels([layer(x) for x in shared]))
            for layer in (self.box_pred, self.class_logits, self.mask_coefficients)
        )
        return deltas, logits, coefficients.tanh()

    def _by_anchor(self, rows: Tensor) -> Tensor:
        """Reshape rows of cells (N, cells, A * C) into rows of anchors (N, cells * A, C)."""
        return rows.reshape(rows.shape[0], -1, rows.shape[2] // self.num_anchors)


class YOLACTMaskIoUHead(nn.Module):
    """Predicts the IoU of a mask with the ground truth from the mask alone.

    Source: YOLACT++ (arXiv 1912.06218), section 3.4; layers, the last ReLU and the maximum as in the published code.
    Differs: an untrained head predicts about 0.5 instead of 0, where one bad step closes a class's last ReLU for good.
    """

    def __init__(self, *, num_classes: int) -> None:
        """
        Args:
            num_classes: Number of foreground classes K.
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
        """Side of the smallest mask that the unpadded convolutions can process, pixels."""
        return 2 ** (self.num_convs + 1) - 1

    def forward(self, masks: Tensor, classes: Tensor) -> Tensor:
        """Return the predicted IoU of each mask, (M,), non-negative but not limited to 1.

        Args:
            masks: (M, h, w) probabilities, 0 outside of the mask's box; at least :attr:`smallest_mask` pixels per side.
            classes: (M,) int64, class of each mask.
        """
        x = masks[:, None].to(self.predictor.weight.dtype)  # which is float64 in a double-precision model
        for i in range(self.num_convs):
            x = F.relu(self.get_submodule(f"conv{i + 1}")(x))
        ious = F.relu(self.predictor(x)).amax(dim=(2, 3))
        return ious.gather(1, classes[:, None])[:, 0]
