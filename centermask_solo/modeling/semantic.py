"""Semantic segmentation as an auxiliary loss of instance segmentation: it improves the features in training.

Source: YOLACT (arXiv 1904.02689), section 5. YOLACT has it with its own reduced masks; other systems can ask for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.structures import Instances
from torch import Tensor, nn

from ..ops.chunks import rows_per_chunk
from .ground_truth import mask_chunks, rows_on, to_device
from .layers import init_conv_xavier_, init_convs_normal_

PRIOR_PROB = 0.01  # of a class at a pixel, at initialization: pixels have few classes or none


class SemanticHead(nn.Module):
    """Class logits of every pixel of a feature map: one 1x1 convolution, key ``predictor``; only used in training."""

    def __init__(self, *, in_channels: int, num_classes: int, prior_prob: float | None = None) -> None:
        """
        Args:
            in_channels: Number of channels of the feature map.
            num_classes: Number of foreground classes K.
            prior_prob: Probability of a class at initialization; None for YOLACT's initialization, with 0.5.
        """
        super().__init__()
        self.predictor = nn.Conv2d(in_channels, num_classes, 1)
        init_conv_xavier_(self.predictor)
        if prior_prob is not None:
            init_convs_normal_(self)
            nn.init.constant_(self.predictor.bias, -math.log((1 - prior_prob) / prior_prob))  # type: ignore[arg-type]

    def forward(self, feature: Tensor) -> Tensor:
        """Return the logits, (N, K, Hi, Wi), from ``feature`` (N, C, Hi, Wi)."""
        return self.predictor(feature)


class SemanticAuxiliary(SemanticHead):
    """The auxiliary loss of a system: a :class:`SemanticHead` on one level, its targets and its weight."""

    def __init__(self, *, in_channels: int, num_classes: int, in_feature: str, stride: int, weight: float) -> None:
        """
        Args:
            in_channels: Number of channels of the level.
            num_classes: Number of foreground classes K.
            in_feature: Name of the level, the system's finest.
            stride: Stride of the level, input pixels.
            weight: Weight of the loss.
        """
        super().__init__(in_channels=in_channels, num_classes=num_classes, prior_prob=PRIOR_PROB)
        self.num_classes, self.in_feature, self.stride, self.weight = num_classes, in_feature, stride, weight

    def losses(self, features: dict[str, Tensor], gt_instances: Sequence[Instances]) -> dict[str, Tensor]:
        """Return ``loss_semantic``, a weighted float32 scalar, for the backbone's features of a batch.

        Args:
            features: Features by name, (N, C, Hi, Wi) each.
            gt_instances: N ``Instances`` with checked ``gt_classes``, and ``gt_masks`` in the frame of the input.

        Raises:
            DataError: Masks are missing.
        """
        logits = self(features[self.in_feature])
        size = (logits.shape[2], logits.shape[3])
        with torch.no_grad():
            targets = semantic_targets(gt_instances, self.num_classes, size, self.stride, logits.device)
        return {"loss_semantic": self.weight * semantic_loss(logits, targets)}


def build_semantic_auxiliary(
    shapes: Mapping[str, ShapeSpec], in_feature: str, num_classes: int, weight: float
) -> SemanticAuxiliary | None:
    """Return the auxiliary loss on one of the backbone's outputs, whose ``shapes`` are given; None if it weighs 0."""
    if weight == 0:
        return None
    shape = shapes[in_feature]
    return SemanticAuxiliary(
        in_channels=int(shape.channels or 0),
        num_classes=num_classes,
        in_feature=in_feature,
        stride=int(shape.stride or 0),
        weight=weight,
    )


def semantic_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the binary cross entropy of all classes and pixels: a mean over images and pixels, a sum over classes.

    Args:
        logits: (N, K, Hi, Wi).
        targets: (N, K, Hi, Wi) bool.
    """
    logits = logits.float()
    # Written out to avoid float targets: softplus(x) - x = softplus(-x) where the class is, softplus(x) elsewhere.
    losses = F.softplus(torch.where(targets, -logits, logits))
    num_images, _, height, width = logits.shape
    return losses.sum() / (height * width) / num_images


def unite_classes(masks: Tensor, images: Tensor, classes: Tensor, num_images: int, num_classes: int) -> Tensor:
    """Return the pixels of each class in each image, (N, K, Hi, Wi) bool: the union of its objects' masks.

    Args:
        masks: (M, Hi, Wi) bool.
        images: (M,) int64, image of each mask.
        classes: (M,) int64.
        num_images: N.
        num_classes: K.
    """
    size = masks.shape[1:]
    counts = torch.zeros(num_images * num_classes, *size, dtype=torch.int16, device=masks.device)
    counts.index_add_(0, images * num_classes + classes, masks.to(torch.int16))
    return (counts > 0).view(num_images, num_classes, *size)


def semantic_targets(
    gt_instances: Sequence[Instances], num_classes: int, size: tuple[int, int], stride: int, device: torch.device
) -> Tensor:
    """Return the pixels of each class in each image, (N, K, *size) bool.

    A pixel has a class if an object of it covers at least half of the pixel's ``stride`` x ``stride`` input pixels.

    Args:
        gt_instances: N ``Instances`` as in :meth:`SemanticAuxiliary.losses`; crowds, by ``gt_is_crowd``, do not count.
        num_classes: K.
        size: Height and width of the level.
        stride: Stride of the level, input pixels.
        device: Device of the result.
    """
    masks, images, classes = [], [], []
    for i, x in enumerate(gt_instances):
        crowds = x.gt_is_crowd.tolist() if x.has("gt_is_crowd") else [False] * len(x)
        rows = [row for row, is_crowd in enumerate(crowds) if not is_crowd]
        masks += [reduce_by_area(chunk, size, stride) for chunk in mask_chunks(x, rows, device)]
        images.append(torch.full((len(rows),), i, device=device))
        classes.append(to_device(x.gt_classes, device, torch.int64)[rows_on(device, rows)])
    reduced = torch.cat([torch.zeros(0, *size, dtype=torch.bool, device=device), *masks])
    return unite_classes(reduced, torch.cat(images), torch.cat(classes), len(gt_instances), num_classes)


def reduce_by_area(masks: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """Return masks (M, h, w) bool at ``size``, at its top left: pixels at least half of whose block is set."""
    height, width = size[0] * stride, size[1] * stride
    reduced = torch.zeros(len(masks), *size, dtype=torch.bool, device=masks.device)
    step = rows_per_chunk(4 * height * width)
    for out, chunk in zip(reduced.split(step), masks.split(step), strict=True):
        chunk = chunk[:, :height, :width].float()
        padded = F.pad(chunk, (0, width - chunk.shape[2], 0, height - chunk.shape[1]))
        out.copy_(F.avg_pool2d(padded, stride) >= 0.5)
    return reduced
