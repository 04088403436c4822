"""The losses of YOLACT: sums, which the caller divides and weights. All float32, whatever the precision around them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from detectron2.modeling.box_regression import Box2BoxTransform
from torch import Tensor

from ...ops.boxes import inside_boxes
from .decode import MASK_PADDING, MASK_THRESH, mask_probabilities
from .heads import YOLACTMaskIoUHead
from .targets import YOLACTTargets


def box_loss(box_deltas: Tensor, anchors: Tensor, targets: YOLACTTargets, box_transform: Box2BoxTransform) -> Tensor:
    """The smooth L1 loss of the positives' deltas, summed: a float32 scalar.

    Args:
        box_deltas: (N, R, 4).
        anchors: (R, 4) float32, in the frame of the targets' boxes.
        targets: of the batch.
        box_transform: what deltas mean.
    """
    wanted = box_transform.get_deltas(anchors[targets.anchors], targets.boxes[targets.instances])
    return F.smooth_l1_loss(box_deltas[targets.images, targets.anchors].float(), wanted, reduction="sum")


def class_loss(class_logits: Tensor, targets: YOLACTTargets) -> Tensor:
    """The cross entropy of the positives and of the mined negatives, summed: a float32 scalar.

    Args:
        class_logits: (N, R, K + 1), background first.
        targets: of the batch.
    """
    seen = targets.negatives | (targets.labels > 0)
    return F.cross_entropy(class_logits[seen].float(), targets.labels[seen], reduction="sum")


def mask_loss(mask_coefficients: Tensor, prototypes: Tensor, targets: YOLACTTargets) -> Tensor:
    """The binary cross entropy of the mask terms inside their objects' boxes, over the boxes' areas, summed.

    The pixels of a box and of a border of one around it count; the area is that of the box alone. Terms are weighted
    by how many positives they stand for.

    Args:
        mask_coefficients: (N, R, E).
        prototypes: (N, E, h, w).
        targets: of the batch.

    Source: YOLACT (arXiv 1904.02689), section 3.1; the border as in the published code.
    Differs: the loss of logits, not of clamped probabilities, so it has a gradient beyond logits of 17; pixels outside
        of the border count nothing, where the published code adds 100 for those that the object's mask has.
    """
    size = (prototypes.shape[2], prototypes.shape[3])
    terms = _terms(targets)
    total = prototypes.new_zeros((), dtype=torch.float32)
    with torch.autocast(prototypes.device.type, enabled=False):
        for i, (rows, weights) in enumerate(terms):
            instances = targets.instances[rows]
            boxes = targets.boxes[instances]
            inside = inside_boxes(boxes, size, MASK_PADDING).flatten(1)
            logits = mask_coefficients[i, targets.anchors[rows]].float() @ prototypes[i].float().flatten(1)
            areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1) * (size[0] * size[1])
            # Only what is inside is kept for the backward pass.
            truth = targets.masks[instances].flatten(1)[inside]
            pixel_weights = (weights / areas)[:, None].expand_as(inside)[inside]
            losses = F.binary_cross_entropy_with_logits(logits[inside], truth.float(), reduction="none")
            total = total + (losses * pixel_weights).sum()
    return total


def sem_seg_loss(sem_seg_logits: Tensor, targets: YOLACTTargets) -> Tensor:
    """The binary cross entropy of all classes and pixels, summed over classes and images, a mean over pixels.

    Args:
        sem_seg_logits: (N, K, Hi, Wi).
        targets: of the batch.
    """
    logits, truth = sem_seg_logits.float(), targets.sem_seg
    # Written out, as it needs no targets of floats: softplus(x) - x where the class is, softplus(x) elsewhere.
    losses = F.softplus(torch.where(truth, -logits, logits))
    return losses.sum() / (truth.shape[2] * truth.shape[3])


def mask_iou_loss(
    mask_iou_head: YOLACTMaskIoUHead,
    mask_coefficients: Tensor,
    prototypes: Tensor,
    targets: YOLACTTargets,
    min_area: float,
) -> Tensor:
    """The smooth L1 loss of the predicted IoU of the mask terms with a large enough truth, summed.

    Its gradient reaches prototypes and coefficients too, through the masks that the head sees.

    Args:
        mask_iou_head: predicts the IoU.
        mask_coefficients: (N, R, E).
        prototypes: (N, E, h, w).
        targets: of the batch.
        min_area: true masks must have more pixels, at the prototypes' size.

    Source: YOLACT++ (arXiv 1912.06218), section 3.4, and its published code.
    """
    areas = targets.masks.flatten(1).sum(dim=1)
    masks, instances = [], []
    for i, (rows, _) in enumerate(_terms(targets)):
        large = rows[areas[targets.instances[rows]] > min_area]
        instances.append(targets.instances[large])
        coefficients = mask_coefficients[i, targets.anchors[large]]
        masks.append(mask_probabilities(coefficients, prototypes[i], targets.boxes[instances[-1]]))
    index = torch.cat(instances)
    probabilities = torch.cat(masks)
    predicted = mask_iou_head(probabilities, targets.classes[index]).float()
    with torch.no_grad():
        found, truth = (probabilities > MASK_THRESH).flatten(1), targets.masks[index].flatten(1)
        unions = (found | truth).sum(dim=1)
        wanted = (found & truth).sum(dim=1) / unions.clamp(min=1)
    return F.smooth_l1_loss(predicted, wanted, reduction="sum")


def _terms(targets: YOLACTTargets) -> list[tuple[Tensor, Tensor]]:
    """The mask terms of each image: rows of the positives, and their weights."""
    rows, weights = (x.split(targets.terms_per_image) for x in (targets.mask_terms, targets.mask_weights))
    return list(zip(rows, weights, strict=True))
