"""Matching of proposals to objects, in bounded memory and without reads on the host."""

from __future__ import annotations

import torch
from detectron2.modeling.matcher import Matcher
from detectron2.structures import Boxes, pairwise_iou
from torch import Tensor

from ...ops.chunks import rows_per_chunk


def match_in_chunks(matcher: Matcher, gt_boxes: Boxes, boxes: Boxes) -> tuple[Tensor, Tensor]:
    """Return the object (R,) int64 and the label (R,) int8 of each box, as Detectron2's matcher finds them.

    Args:
        matcher: Its thresholds and labels count; it must not allow matches of low quality, as that of RoI heads.
        gt_boxes: M objects.
        boxes: R boxes on the same device.
    """
    if len(gt_boxes) == 0:
        index = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
        return index, torch.full_like(index, matcher.labels[0], dtype=torch.int8)
    step = rows_per_chunk(32 * len(gt_boxes))  # per pair the sides, area and union of the intersection, and the IoU
    parts = [pairwise_iou(gt_boxes, Boxes(x)).max(dim=0) for x in boxes.tensor.split(step)]
    best, index = (torch.cat(x) for x in zip(*parts, strict=True))
    labels = torch.ones_like(index, dtype=torch.int8)
    for label, low, high in zip(matcher.labels, matcher.thresholds[:-1], matcher.thresholds[1:], strict=True):
        labels = torch.where((best >= low) & (best < high), label, labels)
    return index, labels


def match_classes(matcher: Matcher, boxes: Tensor, gt_boxes: Tensor, gt_classes: Tensor, num_classes: int) -> Tensor:
    """Return the object and the class of each box, (2, R) int64; class K is background, -1 neither.

    Args:
        matcher: As in :func:`match_in_chunks`.
        boxes: (R, 4) float.
        gt_boxes, gt_classes: (M, 4) float and (M,) int64, boxes and classes of the objects.
        num_classes: K.
    """
    index, labels = match_in_chunks(matcher, Boxes(gt_boxes), Boxes(boxes))
    if len(gt_classes) == 0:
        return torch.stack([index, torch.full_like(index, num_classes)])
    classes = torch.where(labels == 0, num_classes, gt_classes[index])
    return torch.stack([index, torch.where(labels == -1, -1, classes)])
