"""Losses as functions of tensors, all computed in float32 whatever the precision around them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

DICE_EPSILON = 0.001  # added to each of the two squared sums: SOLOv2's published code
DICE_CHUNK_FLOATS = 2**23  # probabilities of one chunk of dice terms: 32 MB, and about four times that in autograd


def sigmoid_focal_loss_sum(logits: Tensor, classes: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """The sigmoid focal loss summed over all rows and classes: a float32 scalar.

    Args:
        logits: (..., K), any floating dtype.
        classes: (...), int64; the class of each row, 0..K-1, or K for background.
        alpha: weight of positive entries; negative ones weigh ``1 - alpha``.
        gamma: exponent that lowers the weight of what is classified well.

    Source: Lin et al., arXiv 1708.02002, equation 5.
    """
    with torch.autocast(logits.device.type, enabled=False):
        logits = logits.float()
        num_classes = logits.shape[-1]
        foreground = (classes >= 0) & (classes < num_classes)
        # One tensor of signs instead of one-hot targets: a background row writes +1, so no shape depends on the data.
        column = torch.where(foreground, classes, torch.zeros_like(classes))[..., None]
        sign_at_column = torch.where(foreground, -1.0, 1.0)[..., None]
        signs = torch.ones_like(logits).scatter(-1, column, sign_at_column.to(logits.dtype))
        wrongness = logits * signs
        losses = wrongness.sigmoid().pow(gamma) * F.softplus(wrongness)
        return (losses * torch.where(signs < 0, alpha, 1 - alpha)).sum()


def dice_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """The dice loss of each row, 1 - 2 Σ p t / (Σ p² + ε + Σ t² + ε): (R,) float32 in 0..1.

    Args:
        scores: (R, P), probabilities of P pixels.
        targets: (R, P), bool or 0/1.

    Source: SOLO (arXiv 1912.04488), equation 4; ε = 0.001 as in the published code.
    """
    with torch.autocast(scores.device.type, enabled=False):
        scores = scores.float()
        overlap = (scores * targets).sum(1)
        sizes = scores.square().sum(1) + targets.sum(1) + 2 * DICE_EPSILON
        return 1 - 2 * overlap / sizes


def _dice_of_kernels(kernels: Tensor, mask_features: Tensor, masks: Tensor, mask_index: Tensor) -> Tensor:
    """The dice loss of the masks that ``kernels`` give, all rows at once."""
    return dice_loss((kernels @ mask_features).sigmoid(), masks[mask_index])


def dynamic_mask_dice_loss(
    kernels: Tensor,
    mask_features: Tensor,
    masks: Tensor,
    mask_index: Tensor,
    chunk_floats: int = DICE_CHUNK_FLOATS,
) -> Tensor:
    """The dice loss of each term, a kernel and the mask that it should give: (R,) float32.

    Memory beyond the inputs and their gradients is bounded: at most ``chunk_floats`` probabilities (and the few
    intermediate values of each) exist at once, in both directions. More terms than one chunk holds are computed chunk
    by chunk, and again in the backward pass.

    Args:
        kernels: (R, E), one a term.
        mask_features: (E, P), of all P pixels of one image.
        masks: (M, P) bool, target masks.
        mask_index: (R,) int64, each term's row of ``masks``.
        chunk_floats: the most probabilities that exist at once.

    Source: SOLOv2 (arXiv 2003.10152), section 3.3.
    """
    with torch.autocast(kernels.device.type, enabled=False):
        kernels, mask_features = kernels.float(), mask_features.float()
        rows = max(chunk_floats // max(mask_features.shape[1], 1), 1)
        if len(kernels) <= rows:
            return _dice_of_kernels(kernels, mask_features, masks, mask_index)
        chunks = [
            checkpoint(_dice_of_kernels, kernels_i, mask_features, masks, index_i, use_reentrant=False)
            for kernels_i, index_i in zip(kernels.split(rows), mask_index.split(rows), strict=True)
        ]
        return torch.cat(chunks)
