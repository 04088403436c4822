"""The losses of FCOS as pure functions of tensors, in at least float32 regardless of autocast."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from detectron2.utils import comm
from torch import Tensor
from torch.nn import functional as F

from ...ops.levels import flatten_levels, split_levels
from ...ops.losses import sigmoid_focal_loss_sum
from ...ops.precision import at_least_float32
from .targets import FCOSTargets


def fcos_losses(
    class_logits: Sequence[Tensor],
    ltrb: Sequence[Tensor],
    centerness_logits: Sequence[Tensor],
    targets: FCOSTargets,
    *,
    num_positive: Tensor,
    centerness_sum: Tensor,
    focal_alpha: float,
    focal_gamma: float,
    box_loss_type: str,
) -> dict[str, Tensor]:
    """Return ``loss_fcos_cls``, ``loss_fcos_loc`` and ``loss_fcos_ctr``: scalars, zero but connected where empty.

    Args:
        class_logits: L x (N, K, Hi, Wi).
        ltrb: L x (N, 4, Hi, Wi), distances in strides.
        centerness_logits: L x (N, 1, Hi, Wi).
        targets: Targets of all locations.
        num_positive: Divisor of the class and centerness losses, a positive scalar.
        centerness_sum: Divisor of the box loss, a positive scalar.
        focal_alpha: Weight of positives in the focal loss; negatives weigh 1 - alpha.
        focal_gamma: Exponent of the focal loss.
        box_loss_type: A key of :data:`BOX_LOSSES`.

    Source: FCOS; the box loss is weighted by the centerness targets.
    """
    sizes = [(x.shape[2], x.shape[3]) for x in class_logits]
    focal = [
        sigmoid_focal_loss_sum(logits.flatten(2).transpose(1, 2), classes, focal_alpha, focal_gamma)
        for logits, classes in zip(class_logits, split_levels(targets.classes, sizes), strict=True)
    ]
    positive = (targets.classes < class_logits[0].shape[1]).nonzero(as_tuple=True)
    centerness = targets.centerness[positive]
    box = BOX_LOSSES[box_loss_type](at_least_float32(flatten_levels(ltrb)[positive]), targets.ltrb[positive])
    pred_centerness = at_least_float32(flatten_levels(centerness_logits)[..., 0][positive])
    quality = F.binary_cross_entropy_with_logits(pred_centerness, centerness.to(pred_centerness), reduction="sum")
    return {
        "loss_fcos_cls": torch.stack(focal).sum() / num_positive,
        "loss_fcos_loc": (box * centerness).sum() / centerness_sum,
        "loss_fcos_ctr": quality / num_positive,
    }


def _iou_and_giou(pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return IoU and GIoU, (R,) each, of boxes around the same points, given as distances (R, 4) in strides.

    Differs: as in the authors' code, 1 is added to intersection and union (but not in GIoU's second term). In units of
        strides this matters: it favors small boxes.
    """
    left, top, right, bottom = torch.minimum(pred, target).unbind(1)
    hull_left, hull_top, hull_right, hull_bottom = torch.maximum(pred, target).unbind(1)
    intersection = (left + right) * (top + bottom)
    areas = [(x[:, 0] + x[:, 2]) * (x[:, 1] + x[:, 3]) for x in (pred, target)]
    union = areas[0] + areas[1] - intersection
    hull = (hull_left + hull_right) * (hull_top + hull_bottom)
    iou = (intersection + 1) / (union + 1)
    return iou, iou - (hull - union) / hull


def giou_loss(pred: Tensor, target: Tensor) -> Tensor:
    """Return 1 - GIoU of each pair of boxes, (R,), from distances (R, 4) in strides."""
    return 1 - _iou_and_giou(pred, target)[1]


def iou_loss(pred: Tensor, target: Tensor) -> Tensor:
    """Return -log(IoU) of each pair of boxes, (R,), from distances (R, 4) in strides."""
    return -_iou_and_giou(pred, target)[0].log()


def linear_iou_loss(pred: Tensor, target: Tensor) -> Tensor:
    """Return 1 - IoU of each pair of boxes, (R,), from distances (R, 4) in strides."""
    return 1 - _iou_and_giou(pred, target)[0]


BOX_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "giou": giou_loss,
    "iou": iou_loss,
    "linear_iou": linear_iou_loss,
}


def average_over_processes(values: Tensor) -> Tensor:
    """Return ``values`` averaged over all processes in one all-reduce; unchanged in a single process."""
    world_size = comm.get_world_size()
    if world_size == 1:
        return values
    values = values / world_size
    torch.distributed.all_reduce(values)
    return values
