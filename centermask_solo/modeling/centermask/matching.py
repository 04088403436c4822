"""Matching of proposals to objects, in bounded memory."""

from __future__ import annotations

import torch
from detectron2.modeling.matcher import Matcher
from detectron2.structures import Boxes, pairwise_iou
from torch import Tensor

from ...ops.chunks import rows_per_chunk


def match_in_chunks(matcher: Matcher, gt_boxes: Boxes, boxes: Boxes) -> tuple[Tensor, Tensor]:
    """Return the object (R,) int64 and the label (R,) int8 of each box, as Detectron2's matcher finds them."""
    step = rows_per_chunk(32 * len(gt_boxes))  # per pair the sides, area and union of the intersection, and the IoU
    parts = [matcher(pairwise_iou(gt_boxes, Boxes(x))) for x in boxes.tensor.split(step)]
    index, labels = (torch.cat(x) for x in zip(*parts, strict=True))
    return index, labels
