"""The two losses of SOLOv2."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...ops.losses import dynamic_mask_dice_loss, sigmoid_focal_loss_sum
from .targets import SOLOv2Targets


def class_loss(class_logits: Sequence[Tensor], targets: SOLOv2Targets, *, alpha: float, gamma: float) -> Tensor:
    """The focal loss of all cells and classes over one more than the positive cells of the batch: a float32 scalar.

    Args:
        class_logits: L x (N, K, S, S).
        targets: of the same cells.
        alpha: weight of positive entries; negative ones weigh ``1 - alpha``.
        gamma: exponent of the focal loss.
    """
    logits = torch.cat([x.flatten(2) for x in class_logits], dim=2).transpose(1, 2)  # (N, cells, K)
    classes = torch.cat([x.flatten(1) for x in targets.classes], dim=1)
    return sigmoid_focal_loss_sum(logits, classes, alpha, gamma) / (targets.num_positive + 1)


def dice_terms(kernels: Sequence[Tensor], mask_features: Tensor, targets: SOLOv2Targets) -> Tensor:
    """The dice loss of each term, (R,) float32, in the order of ``targets``.

    One matrix product an image, of its terms' kernels and its mask features; in chunks where it has many terms.

    Args:
        kernels: L x (N, E, S, S).
        mask_features: (N, E, T_h / 4, T_w / 4).
        targets: of the same cells.
    """
    flat = torch.cat([x.flatten(2) for x in kernels], dim=2).transpose(1, 2)  # (N, cells, E)
    term_kernels = flat[targets.term_images, targets.term_cells].split(targets.terms_per_image)
    term_masks = targets.term_instances.split(targets.terms_per_image)
    masks = targets.masks.flatten(1)
    terms = [
        dynamic_mask_dice_loss(kernels_i, features_i.flatten(1), masks, index_i)
        for kernels_i, features_i, index_i in zip(term_kernels, mask_features, term_masks, strict=True)
    ]
    return torch.cat(terms)


def mask_loss(kernels: Sequence[Tensor], mask_features: Tensor, targets: SOLOv2Targets) -> Tensor:
    """The mean of :func:`dice_terms` over the batch, a float32 scalar; where there are none, 0 but connected.

    Differs: the published code fails on a batch without a term. Here kernels and mask features get zero gradients,
    as distributed training demands.
    """
    if len(targets.term_cells) == 0:
        return 0.0 * (mask_features.float().sum() + torch.stack([x.float().sum() for x in kernels]).sum())
    return dice_terms(kernels, mask_features, targets).mean()
