"""The losses of FCOS, of the masks and of their predicted IoU, in float32 whatever the autocast. No Instances."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from detectron2.utils import comm
from torch import Tensor
from torch.nn import functional as F

from ...ops.losses import sigmoid_focal_loss_sum
from .targets import FCOSTargets

_MIN_CENTERNESS_SUM = 1e-6


def fcos_losses(
    class_logits: Sequence[Tensor],
    ltrb: Sequence[Tensor],
    centerness_logits: Sequence[Tensor],
    targets: FCOSTargets,
    *,
    focal_alpha: float,
    focal_gamma: float,
    box_loss_type: str,
) -> dict[str, Tensor]:
    """``loss_fcos_cls``, ``loss_fcos_loc`` and ``loss_fcos_ctr``: scalars, 0 but connected where nothing is positive.

    Args:
        class_logits: for each level (N, K, Hi, Wi).
        ltrb: for each level (N, 4, Hi, Wi), distances in strides.
        centerness_logits: for each level (N, 1, Hi, Wi).
        targets: of all locations.
        focal_alpha: weight of positives; negatives have 1 - alpha.
        focal_gamma: exponent of the focal loss.
        box_loss_type: a key of :data:`BOX_LOSSES`.

    Source: FCOS; box loss weighted by the centerness target, normalizers averaged over the processes.
    """
    positive = targets.classes < class_logits[0].shape[1]
    normalizers = torch.stack([positive.sum().float(), targets.centerness.sum()])
    num_positive, centerness_sum = average_over_processes(normalizers).unbind()
    num_positive, centerness_sum = num_positive.clamp(min=1), centerness_sum.clamp(min=_MIN_CENTERNESS_SUM)

    sizes = [x.shape[2] * x.shape[3] for x in class_logits]
    focal = [
        sigmoid_focal_loss_sum(logits.flatten(2).transpose(1, 2), classes, focal_alpha, focal_gamma)
        for logits, classes in zip(class_logits, targets.classes.split(sizes, dim=1), strict=True)
    ]
    image, location = positive.nonzero(as_tuple=True)
    pred_ltrb = torch.cat([x.flatten(2) for x in ltrb], dim=2)[image, :, location].float()
    pred_centerness = torch.cat([x.flatten(1) for x in centerness_logits], dim=1)[image, location].float()
    centerness = targets.centerness[image, location]
    box = BOX_LOSSES[box_loss_type](pred_ltrb, targets.ltrb[image, location])
    quality = F.binary_cross_entropy_with_logits(pred_centerness, centerness, reduction="none")
    return {
        "loss_fcos_cls": torch.stack(focal).sum() / num_positive,
        "loss_fcos_loc": (box * centerness).sum() / centerness_sum,
        "loss_fcos_ctr": quality.sum() / num_positive,
    }


def average_over_processes(values: Tensor) -> Tensor:
    """``values`` averaged over the processes of a distributed training, in one all-reduce; unchanged without one."""
    world_size = comm.get_world_size()
    if world_size == 1:
        return values
    values = values / world_size
    torch.distributed.all_reduce(values)
    return values


def _iou_and_giou(pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and GIoU (R,) of boxes around the same points, given by their distances (R, 4) in strides.

    Differs: from the definition of IoU, by a 1 that is added to intersection and union (not to GIoU's second term), as
        in the authors' code. In units of strides it matters: it flatters small boxes.
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
    """1 - GIoU of each pair of boxes (R,), from distances (R, 4) in strides."""
    return 1 - _iou_and_giou(pred, target)[1]


def iou_loss(pred: Tensor, target: Tensor) -> Tensor:
    """-log(IoU) of each pair of boxes (R,), from distances (R, 4) in strides."""
    return -_iou_and_giou(pred, target)[0].log()


def linear_iou_loss(pred: Tensor, target: Tensor) -> Tensor:
    """1 - IoU of each pair of boxes (R,), from distances (R, 4) in strides."""
    return 1 - _iou_and_giou(pred, target)[0]


BOX_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "giou": giou_loss,
    "iou": iou_loss,
    "linear_iou": linear_iou_loss,
}


def mask_loss(mask_logits: Tensor, target_masks: Tensor) -> Tensor:
    """Binary cross entropy, mean over all cells of all RoIs of this process; 0 but connected without RoIs.

    Args:
        mask_logits: (R, side, side), of each RoI's class.
        target_masks: (R, side, side) bool.
    """
    loss = F.binary_cross_entropy_with_logits(mask_logits.float(), target_masks.float(), reduction="sum")
    return loss / max(1, mask_logits.numel())


def mask_iou_loss(pred_ious: Tensor, target_ious: Tensor) -> Tensor:
    """Half the squared error, mean over the RoIs of this process whose target is above 0; 0 but connected without any.

    Args:
        pred_ious: (R,), of each RoI's class.
        target_ious: (R,) float32.

    Source: Mask Scoring R-CNN; RoIs whose mask misses its object altogether teach nothing.
    """
    counted = (target_ious > 0).float()
    return (0.5 * (pred_ious.float() - target_ious) ** 2 * counted).sum() / counted.sum().clamp(min=1)
