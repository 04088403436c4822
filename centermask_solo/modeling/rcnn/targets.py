"""Which regions R-CNN learns from, and as what."""

from __future__ import annotations

from typing import NamedTuple

import torch
from detectron2.modeling.sampling import subsample_labels
from torch import Tensor

from ...ops.boxes import pairwise_iou


class SamplingOptions(NamedTuple):
    """Which regions of an image the fine-tuning draws: see ``MODEL.RCNN``."""

    num_regions: int
    fraction: float  # of objects, at most
    iou: float  # least IoU of a region with an object that it shows


class SampledRegions(NamedTuple):
    """The regions of an image that a training step uses."""

    boxes: Tensor  # (r, 4)
    classes: Tensor  # (r,) int64, 0..K; K is the background


def sample_regions(
    boxes: Tensor, gt_boxes: Tensor, gt_classes: Tensor, num_classes: int, options: SamplingOptions
) -> SampledRegions:
    """Return a random sample of the regions of an image: objects and what overlaps them, and background.

    Args:
        boxes: (R, 4) float, regions, to which the objects' own boxes are added.
        gt_boxes: (M, 4) float, objects.
        gt_classes: (M,) int64.
        num_classes: K.
        options: What is drawn.

    Source: Girshick et al., arXiv 1311.2524, section 2.3.
    """
    boxes = torch.cat([gt_boxes, boxes])
    classes = torch.full((len(boxes),), num_classes, dtype=torch.int64, device=boxes.device)
    if len(gt_boxes):
        best, index = pairwise_iou(gt_boxes, boxes).max(dim=0)
        classes = torch.where(best >= options.iou, gt_classes[index], classes)
    rows = torch.cat(subsample_labels(classes, options.num_regions, options.fraction, num_classes))
    return SampledRegions(boxes[rows], classes[rows])


def class_overlaps(boxes: Tensor, gt_boxes: Tensor, gt_classes: Tensor, num_classes: int) -> Tensor:
    """Return the greatest IoU of each region with an object of each class, (R, K) float.

    Args:
        boxes: (R, 4) float, regions.
        gt_boxes: (M, 4) float, objects.
        gt_classes: (M,) int64.
        num_classes: K.
    """
    overlaps = boxes.new_zeros(len(boxes), num_classes)
    if len(gt_boxes):
        ious = pairwise_iou(boxes, gt_boxes)
        overlaps = overlaps.scatter_reduce(1, gt_classes.expand_as(ious), ious, "amax")
    return overlaps
