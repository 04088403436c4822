"""The losses of RoI masks and of their predicted IoU, in at least float32 regardless of autocast."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ...ops.precision import at_least_float32
from ..parts_of_batch import per_part, total


def mask_loss(mask_logits: Tensor, target_masks: Tensor) -> Tensor:
    """Return the binary cross entropy, averaged over all cells of all RoIs; zero but connected without RoIs.

    Args:
        mask_logits: (R, side, side), of each RoI's class.
        target_masks: (R, side, side) bool.
    """
    logits = at_least_float32(mask_logits)
    loss = F.binary_cross_entropy_with_logits(logits, target_masks.to(logits), reduction="sum")
    return loss / per_part(max(1, total("mask cells", logits.numel())))


def mask_iou_loss(pred_ious: Tensor, target_ious: Tensor) -> Tensor:
    """Return half the squared error, averaged over the RoIs with a target above 0; zero but connected without any.

    Args:
        pred_ious: (R,), of each RoI's class.
        target_ious: (R,) float32.

    Source: Mask Scoring R-CNN; RoIs whose mask misses its object completely do not count.
    """
    counted = (target_ious > 0).float()
    errors = at_least_float32(pred_ious) - target_ious
    return (0.5 * errors**2 * counted).sum() / per_part(total("masks", counted.sum()).clamp(min=1))
