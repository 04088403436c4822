"""The losses of YOLACT: means in float32 also under autocast, not weighted.

They are sums over their terms divided by the number of positive anchors in the batch. Two of them read how many terms
or pixels each image has, once for the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from detectron2.modeling.box_regression import Box2BoxTransform
from torch import Tensor

from ...ops.boxes import inside_boxes
from ..parts_of_batch import per_part, total
from .decode import MASK_PADDING, MASK_THRESH, mask_probabilities
from .targets import YOLACTTargets, places


@dataclass(frozen=True)
class LossWeights:
    """Weights of the losses in the meta-architecture."""

    box: float = 1.5
    classes: float = 1.0
    mask: float = 6.125
    sem_seg: float = 1.0
    mask_iou: float = 25.0


def box_loss(box_deltas: Tensor, anchors: Tensor, targets: YOLACTTargets, box_transform: Box2BoxTransform) -> Tensor:
    """Return the smooth L1 loss of the positives' deltas, a float32 scalar.

    Args:
        box_deltas: (N, R, 4).
        anchors: (R, 4) float32, in the frame of the targets' boxes.
        targets: Targets of the batch.
        box_transform: Conversion of boxes to deltas.
    """
    target_deltas = _deltas(anchors[targets.anchors], targets.boxes[targets.instances], box_transform.weights)
    pred_deltas = box_deltas[targets.images, targets.anchors].float()
    return _per_positive(F.smooth_l1_loss(pred_deltas, target_deltas, reduction="sum"), targets, "box")


def class_loss(class_logits: Tensor, targets: YOLACTTargets) -> Tensor:
    """Return the cross entropy of the positives and of the mined negatives, a float32 scalar.

    Args:
        class_logits: (N, R, K + 1), background first.
        targets: Targets of the batch.
    """
    used = targets.negatives | (targets.labels > 0)
    rows = places(used.flatten(), len(targets.anchors) + targets.num_negatives)
    logits, labels = class_logits.flatten(0, 1)[rows], targets.labels.flatten()[rows]
    loss = F.cross_entropy(logits.float(), labels, reduction="sum")
    return _per_positive(loss, targets, "class")


def mask_loss(mask_coefficients: Tensor, prototypes: Tensor, targets: YOLACTTargets) -> Tensor:
    """Return the binary cross entropy of the mask terms inside their objects' boxes, relative to the boxes' areas.

    The pixels of a box and of a border of one pixel around it count; the area is that of the box alone. Terms are
    weighted by the number of positives that they represent.

    Args:
        mask_coefficients: (N, R, E).
        prototypes: (N, E, h, w).
        targets: Targets of the batch.

    Source: YOLACT (arXiv 1904.02689), section 3.1; the border as in the published code.
    Differs: computed from logits instead of clamped probabilities, so that it has a gradient beyond logits of 17.
        Pixels outside of the border do not count, where the published code adds 100 for those of the object's mask.
    """
    size = (prototypes.shape[2], prototypes.shape[3])
    boxes = targets.boxes[targets.instances[targets.mask_terms]]
    inside = inside_boxes(boxes, size, MASK_PADDING).flatten(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1) * (size[0] * size[1])
    terms = (targets.mask_terms, targets.mask_weights / areas, inside)
    of_images = zip(
        *(x.split(targets.terms_per_image) for x in terms), _numbers_per_image(inside, targets), strict=True
    )
    loss = prototypes.new_zeros((), dtype=torch.float32)
    with torch.autocast(prototypes.device.type, enabled=False):
        for i, (rows, weights, flags, number) in enumerate(of_images):
            coefficients = mask_coefficients[i, targets.anchors[rows]].float()
            gt_masks = targets.masks[targets.instances[rows]]
            pixels = places(flags.flatten(), number).int()  # half of int64: the backward pass keeps them
            loss = loss + _weighted_pixels(coefficients, prototypes[i].float(), gt_masks, weights, pixels)
    return _per_positive(loss, targets, "mask")


class MaskIoUTerms(NamedTuple):
    """The predicted masks whose IoU is learned.

    Attributes:
        masks: (T, h, w) float32 probabilities, 0 outside of the objects' boxes; the input of the mask IoU head.
        instances: (T,) int64, object of each mask, among those of the batch.
    """

    masks: Tensor
    instances: Tensor


def mask_iou_terms(
    mask_coefficients: Tensor, prototypes: Tensor, targets: YOLACTTargets, min_area: float
) -> MaskIoUTerms:
    """Return the predicted masks of the mask terms whose objects are large enough; gradients pass through them.

    Args:
        mask_coefficients: (N, R, E).
        prototypes: (N, E, h, w).
        targets: Targets of the batch.
        min_area: Minimum area of the ground-truth mask, exclusive, pixels at the size of the prototypes.

    Source: YOLACT++ (arXiv 1912.06218), section 3.4, and its published code.
    """
    areas = targets.masks.flatten(1).sum(dim=1)
    is_large = areas[targets.instances[targets.mask_terms]] > min_area
    numbers = _numbers_per_image(is_large, targets)
    rows = targets.mask_terms[places(is_large, sum(numbers))]
    anchors, instances = targets.anchors[rows], targets.instances[rows]
    of_images = zip(anchors.split(numbers), targets.boxes[instances].split(numbers), strict=True)
    masks = [mask_probabilities(mask_coefficients[i, x], prototypes[i], y) for i, (x, y) in enumerate(of_images)]
    return MaskIoUTerms(torch.cat(masks), instances)


def mask_iou_loss(pred_ious: Tensor, terms: MaskIoUTerms, targets: YOLACTTargets) -> Tensor:
    """Return the smooth L1 loss of the predicted IoU of masks, a float32 scalar.

    Args:
        pred_ious: (T,), output of the mask IoU head for ``terms.masks`` and the classes of their objects.
        terms: Masks from :func:`mask_iou_terms`.
        targets: Targets of the batch.
    """
    with torch.no_grad():
        found, gt_masks = (terms.masks > MASK_THRESH).flatten(1), targets.masks[terms.instances].flatten(1)
        unions = (found | gt_masks).sum(dim=1)
        target_ious = (found & gt_masks).sum(dim=1) / unions.clamp(min=1)
    return _per_positive(F.smooth_l1_loss(pred_ious.float(), target_ious, reduction="sum"), targets, "mask IoU")


def _per_positive(loss: Tensor, targets: YOLACTTargets, name: str) -> Tensor:
    """Return the loss ``name`` divided by the number of positive anchors in the batch, or by 1 if there are none."""
    return loss / per_part(max(total(f"positive anchors: {name}", len(targets.anchors)), 1))


def _weighted_pixels(
    coefficients: Tensor, prototypes: Tensor, gt_masks: Tensor, weights: Tensor, pixels: Tensor
) -> Tensor:
    """Return the weighted sum of the binary cross entropy of the pixels inside of their boxes, of one image.

    Args:
        coefficients: (T, E) float32.
        prototypes: (E, h, w) float32.
        gt_masks: (T, h, w) bool.
        weights: (T,) float32.
        pixels: (P,) int32, those inside, as indices into the T * h * w pixels.
    """
    # Only pixels inside are kept for the backward pass.
    logits = (coefficients @ prototypes.flatten(1)).flatten().index_select(0, pixels)
    gt_pixels = gt_masks.flatten().index_select(0, pixels).float()
    pixel_weights = weights.index_select(0, pixels // (gt_masks.shape[1] * gt_masks.shape[2]))
    return (F.binary_cross_entropy_with_logits(logits, gt_pixels, reduction="none") * pixel_weights).sum()


def _numbers_per_image(flags: Tensor, targets: YOLACTTargets) -> list[int]:
    """Return how many ``flags`` (T, ...) bool of the mask terms of each image are set, from one read."""
    numbers: list[int] = torch.stack([x.count_nonzero() for x in flags.split(targets.terms_per_image)]).tolist()
    return numbers


def _deltas(anchors: Tensor, boxes: Tensor, weights: Sequence[float]) -> Tensor:
    """Return the deltas from anchors (P, 4) to boxes (P, 4), as ``Box2BoxTransform.get_deltas``, which reads."""
    offsets, scales = [], []
    for axis in (0, 1):
        side, box_side = (x[:, axis + 2] - x[:, axis] for x in (anchors, boxes))
        center, box_center = anchors[:, axis] + 0.5 * side, boxes[:, axis] + 0.5 * box_side
        offsets.append(weights[axis] * (box_center - center) / side)
        scales.append(weights[axis + 2] * torch.log(box_side / side))
    return torch.stack(offsets + scales, dim=1)
