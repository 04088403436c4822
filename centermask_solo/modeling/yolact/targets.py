"""The training targets of YOLACT: which anchors stand for which objects, and which of them the losses see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...ops.boxes import pairwise_intersections, pairwise_iou
from ...ops.topk import stable_topk

NEUTRAL = -1  # of an anchor that takes no part in the class loss
CHUNK_FLOATS = 2**22  # overlaps of objects and anchors that exist at once: 16 MB, and twice that for their ranks


class Objects(NamedTuple):
    """The ground truth of one image; all boxes in fractions of the input.

    Attributes:
        boxes: (M, 4) float, x0 y0 x1 y1.
        classes: (M,) int64, 0..K-1.
        crowd_boxes: (number of crowds, 4) float.
    """

    boxes: Tensor
    classes: Tensor
    crowd_boxes: Tensor


class Matches(NamedTuple):
    """What each anchor of an image stands for.

    Attributes:
        instances: (R,) int64; the object of a positive anchor, elsewhere without meaning.
        labels: (R,) int64; class + 1 of a positive anchor, 0 for background, ``NEUTRAL`` for no part: the index into
            the class logits.
    """

    instances: Tensor
    labels: Tensor


class YOLACTTargets(NamedTuple):
    """What a batch should be taught. P positive anchors, image by image; M objects of the batch, without crowds.

    Attributes:
        labels: (N, R) int64, as in :class:`Matches`.
        images: (P,) int64; the image of each positive.
        anchors: (P,) int64; its anchor.
        instances: (P,) int64; its object among those of the batch.
        negatives: (N, R) bool; the mined background anchors.
        mask_terms: (T,) int64, ascending; the positives that the mask loss sees.
        mask_weights: (T,) float32; how many positives of its image each of them stands for.
        terms_per_image: N numbers; how many mask terms each image has.
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
    mask_terms: Tensor
    mask_weights: Tensor
    terms_per_image: list[int]
    boxes: Tensor
    classes: Tensor
    masks: Tensor
    sem_seg: Tensor


def match_anchors(
    anchors: Tensor, objects: Objects, *, positive_iou: float, negative_iou: float, crowd_ioa: float
) -> Matches:
    """What each anchor stands for: its best object if they overlap enough, or the object that has no better anchor.

    Each object takes one anchor for itself, by :func:`assign_one_to_one`, whatever its overlap. Objects without width
    or height take none.

    Args:
        anchors: (R, 4) float, in the frame of the objects.
        objects: of the image.
        positive_iou: smallest overlap of a positive anchor.
        negative_iou: anchors with less are background; between the two they are neutral.
        crowd_ioa: background anchors with a larger share inside a crowd are neutral.

    Source: YOLACT's published code of August 2019 and later.
    Differs: an object without extent takes no anchor, as the logarithm of its size would make the loss infinite.
    """
    num_anchors, num_objects = len(anchors), len(objects.boxes)
    best_iou = anchors.new_full((num_anchors,), -1.0)
    best_object = torch.zeros(num_anchors, dtype=torch.int64, device=anchors.device)
    has_extent = (objects.boxes[:, 2:] > objects.boxes[:, :2]).all(dim=1) & objects.boxes.isfinite().all(dim=1)
    top_ious, top_anchors = [], []
    step = max(CHUNK_FLOATS // max(num_anchors, 1), 1)
    for start in range(0, num_objects, step):
        ious = pairwise_iou(objects.boxes[start : start + step], anchors)
        ious = torch.where(has_extent[start : start + step, None], ious, 0.0)
        highest, rows = ious.max(dim=0)
        rows = torch.where(ious == highest, torch.arange(len(ious), device=ious.device)[:, None], num_objects).amin(0)
        best_object = torch.where(highest > best_iou, rows + start, best_object)  # of equals the first object
        best_iou = torch.maximum(best_iou, highest)
        chunk_ious, chunk_anchors = stable_topk(ious, num_objects)
        top_ious.append(chunk_ious)
        top_anchors.append(chunk_anchors)
    if num_objects:
        chosen = assign_one_to_one(torch.cat(top_ious), torch.cat(top_anchors), has_extent)
        taken = (chosen >= 0).nonzero()[:, 0]
        best_object[chosen[taken]] = taken
        best_iou[chosen[taken]] = 2.0
    positive = best_iou >= positive_iou
    neutral = (best_iou >= negative_iou) & ~positive
    if len(objects.crowd_boxes):
        neutral |= ~positive & (_share_inside(anchors, objects.crowd_boxes) > crowd_ioa)
    labels = objects.classes[best_object] + 1 if num_objects else torch.zeros_like(best_object)
    return Matches(best_object, torch.where(positive, labels, torch.where(neutral, NEUTRAL, 0)))


def assign_one_to_one(top_ious: Tensor, top_anchors: Tensor, takes_part: Tensor) -> Tensor:
    """The anchor that each object takes for itself, (M,) int64; -1 for none, on the device given.

    The result of taking, again and again, the pair of a free object and a free anchor with the highest overlap (of
    equals the lower object, then the lower anchor). As objects and anchors rank each other by the same number, that is
    the one stable matching, which proposals find all at once: every object points to its best anchor, the best of
    those that point to one stays, the others move on to their next best. Few rounds do, each for all objects together.

    Args:
        top_ious: (M, k) float, the k highest overlaps of each object, falling; k is M, or the number of anchors.
        top_anchors: (M, k) int64, their anchors.
        takes_part: (M,) bool.
    """
    # A few numbers an object, and a wait for the device each round: on the host.
    ious, anchors, active = top_ious.cpu(), top_anchors.cpu(), takes_part.cpu()
    num_objects, num_choices = ious.shape
    objects = torch.arange(num_objects)
    choice = torch.zeros(num_objects, dtype=torch.int64)
    num_anchors = int(anchors.max()) + 1
    while True:
        at = choice.clamp(max=num_choices - 1)
        active = active & (choice < num_choices)
        pointed = anchors[objects, at]
        keys = (ious[objects, at].contiguous().view(torch.int32).long() << 32) + (num_objects - objects)
        best = torch.zeros(num_anchors, dtype=torch.int64)
        best.scatter_reduce_(0, pointed, torch.where(active, keys, 0), "amax")
        lost = active & (keys < best[pointed])
        if not bool(lost.any()):
            return torch.where(active, pointed, -1).to(top_anchors.device)
        choice += lost


def _share_inside(anchors: Tensor, crowd_boxes: Tensor) -> Tensor:
    """The largest share of each anchor's area that lies in one of the crowds, (R,) float."""
    areas = (anchors[:, 2:] - anchors[:, :2]).prod(dim=1)
    return (pairwise_intersections(crowd_boxes, anchors) / areas).amax(dim=0)


def mine_negatives(class_logits: Tensor, labels: Tensor, ratio: int) -> Tensor:
    """The background anchors that are hardest to tell, (N, R) bool: ``ratio`` to a positive of their image.

    An anchor is the harder, the lower its probability of being background.

    Args:
        class_logits: (N, R, K + 1), background first.
        labels: (N, R) int64, as in :class:`Matches`.
        ratio: negatives to a positive; fewer where an image has not as many.

    Source: YOLACT (arXiv 1904.02689), section 4, after SSD.
    Differs: one logarithm of a sum of exponentials a row. The published code subtracts the maximum of the whole batch
        instead, which loses rows far below it.
    """
    logits = class_logits.float()
    hardness = logits.logsumexp(dim=2) - logits[:, :, 0]
    # A NaN ranks first, so that it reaches the loss and is noticed.
    hardness = torch.where(labels == 0, hardness.nan_to_num(nan=torch.inf), -torch.inf)
    wanted = (ratio * (labels > 0).sum(dim=1)).clamp(max=labels.shape[1] - 1)
    k = int(wanted.max())
    columns = hardness.topk(k, dim=1).indices
    chosen = torch.arange(k, device=labels.device) < wanted[:, None]
    negatives = torch.zeros_like(labels, dtype=torch.bool).scatter_(1, columns, chosen)
    return negatives & (labels == 0)


def sem_seg_targets(masks: Tensor, images: Tensor, classes: Tensor, num_images: int, num_classes: int) -> Tensor:
    """Where each class is in each image, (N, K, Hi, Wi) bool: the union of its objects' masks.

    Args:
        masks: (M, Hi, Wi) bool.
        images: (M,) int64, the image of each mask.
        classes: (M,) int64.
        num_images: N.
        num_classes: K.
    """
    size = masks.shape[1:]
    counts = torch.zeros(num_images * num_classes, *size, dtype=torch.int16, device=masks.device)
    counts.index_add_(0, images * num_classes + classes, masks.to(torch.int16))
    return (counts > 0).view(num_images, num_classes, *size)


def sample_terms(num_positives: Sequence[int], limit: int, device: torch.device) -> tuple[Tensor, Tensor, list[int]]:
    """At most ``limit`` positives of each image, at random: rows (T,) int64, ascending, weights (T,), and numbers.

    Args:
        num_positives: N numbers; rows count through the positives of all images.
        limit: of one image.
        device: of the result.
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
    """Height and width of the prototypes, and of the semantic segmentation, whose targets are masks of these sizes.

    Args:
        input_size: side of the network's square input, pixels.
        stride: of the feature map that both are computed from; prototypes have twice its size.
    """
    side = -(-input_size // stride)  # each of the layers of stride 2 rounds up
    return (2 * side, 2 * side), (side, side)


def build_targets(
    class_logits: Tensor,
    anchors: Tensor,
    objects: Sequence[Objects],
    masks: Tensor,
    sem_seg_masks: Tensor,
    *,
    positive_iou: float,
    negative_iou: float,
    crowd_ioa: float,
    ohem_ratio: int,
    masks_to_train: int,
) -> YOLACTTargets:
    """The targets of a batch of N images.

    Args:
        class_logits: (N, R, K + 1), for the mining.
        anchors: (R, 4) float32, fractions of the input.
        objects: N of them.
        masks: (M, h, w) bool, of all objects, image by image, at the prototypes' size.
        sem_seg_masks: (M, Hi, Wi) bool, the same at the size of the semantic segmentation.
        positive_iou: see :func:`match_anchors`; also ``negative_iou`` and ``crowd_ioa``.
        negative_iou: see there.
        crowd_ioa: see there.
        ohem_ratio: see :func:`mine_negatives`.
        masks_to_train: positives of an image in the mask loss at most.

    Raises:
        ValueError: a class outside 0..K-1.
    """
    device, num_classes = class_logits.device, class_logits.shape[2] - 1
    classes = torch.cat([x.classes for x in objects])
    _check_classes(classes, num_classes)
    numbers = torch.tensor([len(x.boxes) for x in objects], device=device)
    first = numbers.cumsum(0) - numbers
    matches = [
        match_anchors(anchors, x, positive_iou=positive_iou, negative_iou=negative_iou, crowd_ioa=crowd_ioa)
        for x in objects
    ]
    labels = torch.stack([m.labels for m in matches])
    instances = torch.stack([m.instances for m in matches]) + first[:, None]
    images, positives = (labels > 0).nonzero(as_tuple=True)
    num_positives = images.bincount(minlength=len(objects)).tolist()
    mask_terms, mask_weights, terms_per_image = sample_terms(num_positives, masks_to_train, device)
    images_of_objects = torch.arange(len(objects), device=device).repeat_interleave(numbers, output_size=len(classes))
    return YOLACTTargets(
        labels=labels,
        images=images,
        anchors=positives,
        instances=instances[images, positives],
        negatives=mine_negatives(class_logits, labels, ohem_ratio),
        mask_terms=mask_terms,
        mask_weights=mask_weights,
        terms_per_image=terms_per_image,
        boxes=torch.cat([x.boxes for x in objects]),
        classes=classes,
        masks=masks,
        sem_seg=sem_seg_targets(sem_seg_masks, images_of_objects, classes, len(objects), num_classes),
    )


def _check_classes(classes: Tensor, num_classes: int) -> None:
    """Raise a ValueError for a class outside 0..K-1, which indexing on a GPU would answer with a crash."""
    outside = classes[(classes < 0) | (classes >= num_classes)]
    if len(outside):
        raise ValueError(
            f"An instance has class {outside[0].item()}, but MODEL.YOLACT.NUM_CLASSES is {num_classes}: "
            f"set it to the number of classes of the dataset, whose instances then have 0..{num_classes - 1}."
        )
