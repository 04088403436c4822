"""The two losses of SOLOv2: means in float32, not weighted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from ...ops.levels import flatten_levels
from ...ops.losses import dynamic_mask_dice_loss, sigmoid_focal_loss_sum
from ..parts_of_batch import per_part, total
from .targets import SOLOv2Targets


class ClassTargets(Protocol):
    """Targets with the class of each cell, L x (N, S, S) int64, and the number of foreground cells in the batch."""

    @property
    def classes(self) -> list[Tensor]: ...
    @property
    def num_positive(self) -> int: ...


def class_loss(class_logits: Sequence[Tensor], targets: ClassTargets, *, alpha: float, gamma: float) -> Tensor:
    """Return the focal loss of all cells and classes, divided by the number of positive cells plus 1.

    Args:
        class_logits: L x (N, K, S, S).
        targets: Targets of the same cells.
        alpha: Weight of positive entries; negative entries have the weight ``1 - alpha``.
        gamma: Exponent of the focal loss.

    Returns:
        A float32 scalar.
    """
    classes = flatten_levels([x[:, None] for x in targets.classes])[..., 0]
    loss = sigmoid_focal_loss_sum(flatten_levels(class_logits), classes, alpha, gamma)
    return loss / per_part(total("positive cells", targets.num_positive) + 1)


def dice_terms(kernels: Sequence[Tensor], mask_features: Tensor, targets: SOLOv2Targets) -> Tensor:
    """Return the dice loss of each term, (R,) float32, in the order of ``targets``.

    Each image takes one matrix product of its terms' kernels and its mask features, in chunks if it has many terms.

    Args:
        kernels: L x (N, E, S, S).
        mask_features: (N, E, T_h / 4, T_w / 4).
        targets: Targets of the same cells.
    """
    term_kernels = flatten_levels(kernels)[targets.term_images, targets.term_cells].split(targets.terms_per_image)
    term_masks = targets.term_instances.split(targets.terms_per_image)
    masks = targets.masks.flatten(1)
    terms = [
        dynamic_mask_dice_loss(kernels_i, features_i.flatten(1), masks, index_i)
        for kernels_i, features_i, index_i in zip(term_kernels, mask_features, term_masks, strict=True)
    ]
    return torch.cat(terms)


def mask_loss(kernels: Sequence[Tensor], mask_features: Tensor, targets: SOLOv2Targets) -> Tensor:
    """Return the mean of :func:`dice_terms` over the batch, a float32 scalar; 0 but connected if there are none.

    Differs: the published code fails on a batch without terms. Here kernels and mask features get zero gradients, which
        distributed training needs.
    """
    num_terms = total("dice terms", len(targets.term_cells))
    if len(targets.term_cells) == 0:
        return 0.0 * (mask_features.float().sum() + torch.stack([x.float().sum() for x in kernels]).sum())
    return dice_terms(kernels, mask_features, targets).sum() / per_part(num_terms)
