"""The training targets of YOLACT: labels of the anchors, mined negatives, sampled mask terms, semantic masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ...utils.errors import ConfigError
from ..ground_truth import check_class_range, class_range, rows_on
from ..option_checks import check_at_least
from ..semantic import unite_classes
from .ground_truth import GroundTruth
from .matching import FIRST_EFFORT, match_anchors


@dataclass(frozen=True)
class TargetOptions:
    """Numbers of the targets.

    Attributes:
        positive_iou: Minimum overlap of positive anchors with their object, inclusive.
        negative_iou: Overlap with all objects below which anchors are background.
        crowd_ioa: Share inside a crowd above which background anchors are ignored.
        ohem_ratio: Mined negatives per positive.
        masks_to_train: Maximum number of positives per image in the mask loss.
    """

    positive_iou: float = 0.5
    negative_iou: float = 0.4
    crowd_ioa: float = 0.7
    ohem_ratio: int = 3
    masks_to_train: int = 100

    def __post_init__(self) -> None:
        check_at_least("MODEL.YOLACT.MASKS_TO_TRAIN", self.masks_to_train, 1)
        if self.negative_iou > self.positive_iou:
            raise ConfigError(
                f"MODEL.YOLACT.NEGATIVE_IOU ({self.negative_iou}) must not exceed POSITIVE_IOU ({self.positive_iou})"
            )


class YOLACTTargets(NamedTuple):
    """The training targets of a batch: P positive anchors, image by image; M objects of the batch, without crowds.

    Attributes:
        labels: (N, R) int64, as in :class:`Matches`.
        images: (P,) int64; image of each positive anchor.
        anchors: (P,) int64; index of each positive anchor.
        instances: (P,) int64; object of each positive anchor, among those of the batch.
        negatives: (N, R) bool; mined background anchors.
        num_negatives: Number of mined background anchors.
        mask_terms: (T,) int64, ascending; positive anchors in the mask loss.
        mask_weights: (T,) float32; number of positives of its image that each of them represents.
        terms_per_image: Number of mask terms of each of the N images.
        boxes: (M, 4) float32, fractions of the input.
        classes: (M,) int64.
        masks: (M, h, w) bool, at the size of the prototypes.
        sem_seg: (N, K, Hi, Wi) bool, at the size of the semantic segmentation; the union of each class's masks.
    """

    labels: Tensor
    images: Tensor
    anchors: Tensor
    instances: Tensor
    negatives: Tensor
    num_negatives: int
    mask_terms: Tensor
    mask_weights: Tensor
    terms_per_image: list[int]
    boxes: Tensor
    classes: Tensor
    masks: Tensor
    sem_seg: Tensor


def mine_negatives(class_logits: Tensor, labels: Tensor, ratio: int, most_positives: int) -> Tensor:
    """Return the hardest background anchors, (N, R) bool: ``ratio`` per positive anchor of their image.

    The lower its probability of being background, the harder an anchor is.

    Args:
        class_logits: (N, R, K + 1), background first.
        labels: (N, R) int64, as in :class:`Matches`.
        ratio: Negatives per positive; an image that has fewer uses all.
        most_positives: The largest number of positive anchors of an image.

    Source: YOLACT (arXiv 1904.02689), section 4, after SSD.
    Differs: one log-sum-exp per row. The published code subtracts the maximum of the whole batch instead, which loses
        rows far below it.
    """
    logits = class_logits.float()
    hardness = logits.logsumexp(dim=2) - logits[:, :, 0]
    # A NaN ranks first, so that it reaches the loss and is noticed.
    hardness = torch.where(labels == 0, hardness.nan_to_num(nan=torch.inf), -torch.inf)
    most = labels.shape[1] - 1
    num_negatives = (ratio * (labels > 0).sum(dim=1)).clamp(max=most)
    k = min(ratio * most_positives, most)
    columns = hardness.topk(k, dim=1).indices
    chosen = torch.arange(k, device=labels.device) < num_negatives[:, None]
    negatives = torch.zeros_like(labels, dtype=torch.bool).scatter_(1, columns, chosen)
    return negatives & (labels == 0)


def sample_terms(num_positives: Sequence[int], limit: int, device: torch.device) -> tuple[Tensor, Tensor, list[int]]:
    """Sample at most ``limit`` positives of each image at random.

    Args:
        num_positives: Number of positives of each of the N images.
        limit: Maximum number of terms per image.
        device: Device of the result.

    Returns:
        Rows (T,) int64, ascending, which count through the positives of all images; weights (T,); terms per image.
    """
    rows, weights, numbers, start = [], [], [], 0
    for total in num_positives:
        number = min(total, limit)
        chosen = torch.arange(total, device=device)
        if number < total:
            chosen = torch.randperm(total, device=device)[:number].sort().values
        rows.append(chosen + start)
        weights.append(torch.full((number,), total / max(number, 1), device=device))
        numbers.append(number)
        start += total
    return torch.cat(rows), torch.cat(weights), numbers


def reduced_sizes(input_size: int, stride: int = 8) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return height and width of the prototypes and of the semantic segmentation, at which their target masks are.

    Args:
        input_size: Side of the square network input, pixels.
        stride: Stride of the feature map that both are computed from; prototypes are twice as large.
    """
    side = -(-input_size // stride)  # each layer of stride 2 rounds up
    return (2 * side, 2 * side), (side, side)


def build_targets(
    class_logits: Tensor, anchors: Tensor, ground_truth: GroundTruth, options: TargetOptions
) -> YOLACTTargets:
    """Return the targets of a batch of N images; the host reads once, unless many objects share their anchors.

    Args:
        class_logits: (N, R, K + 1), for mining negatives.
        anchors: (R, 4) float32, fractions of the input.
        ground_truth: Objects and reduced masks of the batch.
        options: Thresholds and limits.

    Raises:
        DataError: A class is outside 0..K-1.
    """
    objects, device, num_classes = ground_truth.objects, class_logits.device, class_logits.shape[2] - 1
    classes = torch.cat([x.classes for x in objects])
    thresholds = {k: getattr(options, k) for k in ("positive_iou", "negative_iou", "crowd_ioa")}

    # Anchors: match them, with more effort if it was not enough. The host reads all that it needs at once.
    effort = FIRST_EFFORT
    while True:
        matches = match_anchors(anchors.float(), objects, **thresholds, effort=effort)  # float64 in such a model
        is_positive = matches.labels > 0
        counts = (is_positive.sum(dim=1), (matches.labels == 0).sum(dim=1))
        figures = torch.cat([class_range(classes), matches.is_complete[None].long(), *counts])
        lowest, highest, is_complete, *numbers = figures.tolist()
        check_class_range(lowest, highest, num_classes, "MODEL.YOLACT.NUM_CLASSES")
        if is_complete:
            break
        effort *= 4
    num_positives, num_background = numbers[: len(objects)], numbers[len(objects) :]
    positives = places(is_positive.flatten(), sum(num_positives))
    images, own_anchors = positives // len(anchors), positives % len(anchors)

    # Masks: sample terms among the positives, unite the objects of each class.
    mask_terms, mask_weights, terms_per_image = sample_terms(num_positives, options.masks_to_train, device)
    images_of_objects = rows_on(device, [i for i, x in enumerate(objects) for _ in range(len(x.boxes))])
    sem_seg = unite_classes(ground_truth.sem_seg_masks, images_of_objects, classes, len(objects), num_classes)
    return YOLACTTargets(
        labels=matches.labels,
        images=images,
        anchors=own_anchors,
        instances=matches.instances.flatten()[positives],
        negatives=mine_negatives(class_logits, matches.labels, options.ohem_ratio, max(num_positives)),
        num_negatives=sum(min(options.ohem_ratio * p, n) for p, n in zip(num_positives, num_background, strict=True)),
        mask_terms=mask_terms,
        mask_weights=mask_weights,
        terms_per_image=terms_per_image,
        boxes=torch.cat([x.boxes for x in objects]),
        classes=classes,
        masks=ground_truth.masks,
        sem_seg=sem_seg,
    )


def places(flags: Tensor, total: int) -> Tensor:
    """Return where ``flags`` (R,) bool are set, (total,) int64, ascending; their number need not be read."""
    if flags.device.type == "cpu":
        return torch.nonzero_static(flags, size=total)[:, 0]
    return ranked_places(flags, total)


def ranked_places(flags: Tensor, total: int) -> Tensor:
    """Do what :func:`places` does on a GPU, for which earlier versions of PyTorch have no ``nonzero_static``."""
    ranks = torch.where(flags, flags.cumsum(0) - 1, total)
    found = ranks.new_empty(total + 1)
    return found.scatter_(0, ranks, torch.arange(len(flags), device=flags.device))[:total]
