"""Losses as functions of tensors, computed in float32 also under autocast."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .chunks import rows_per_chunk

DICE_EPSILON = 0.001  # added to each of the two squared sums, as in SOLOv2's published code


def sigmoid_focal_loss_sum(logits: Tensor, classes: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Return the sigmoid focal loss summed over all rows and classes, a float32 scalar.

    Args:
        logits: (..., K), any floating dtype.
        classes: (...) int64; class of each row, 0..K-1, or K for background.
        alpha: Weight of positive entries; negative entries have the weight ``1 - alpha``.
        gamma: Exponent that down-weights well-classified entries.

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


def _dice_sums(scores: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Return Σpt and Σp² + ε + Σt² + ε of each row of scores p and masks t of 0 and 1, (R, P) each."""
    return torch.linalg.vecdot(scores, masks), torch.linalg.vecdot(scores, scores) + masks.sum(1) + 2 * DICE_EPSILON


def dice_loss(scores: Tensor, masks: Tensor) -> Tensor:
    """Return the dice loss of each row, 1 - 2 Σpt / (Σp² + ε + Σt² + ε): (R,).

    Args:
        scores: (R, P) probabilities, float32 or float64.
        masks: (R, P) bool.

    Source: SOLO (arXiv 1912.04488), equation 4; ε = 0.001 as in the published code.
    """
    overlaps, sizes = _dice_sums(scores, masks.to(scores.dtype))
    return 1 - 2 * overlaps / sizes


class _DynamicMaskDice(torch.autograd.Function):
    """:func:`dynamic_mask_dice_loss` that recomputes the probabilities in the backward pass instead of saving them."""

    @staticmethod
    def forward(
        ctx: Any, kernels: Tensor, mask_features: Tensor, masks: Tensor, mask_index: Tensor, rows: int
    ) -> Tensor:
        """Return the loss of each term, computed ``rows`` terms at a time."""
        overlaps, sizes = kernels.new_empty(2, len(kernels))
        for i in range(0, len(kernels), rows):
            chunk = slice(i, i + rows)
            scores = (kernels[chunk] @ mask_features).sigmoid_()
            targets = masks[mask_index[chunk]].to(scores.dtype)
            overlaps[chunk], sizes[chunk] = _dice_sums(scores, targets)
        ctx.save_for_backward(kernels, mask_features, masks, mask_index, overlaps, sizes)
        ctx.rows = rows
        return 1 - 2 * overlaps / sizes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        """Return the gradients of kernels and mask features, computed ``rows`` terms at a time."""
        kernels, mask_features, masks, mask_index, overlaps, sizes = ctx.saved_tensors
        grad_kernels, grad_features = torch.empty_like(kernels), torch.zeros_like(mask_features)
        # d loss / d p = 4 Σpt p / sizes² - 2 t / sizes, and d p / d logit = p (1 - p).
        of_scores, of_targets = (4 * grad * overlaps / sizes.square())[:, None], (-2 * grad / sizes)[:, None]
        for i in range(0, len(kernels), ctx.rows):
            chunk = slice(i, i + ctx.rows)
            scores = (kernels[chunk] @ mask_features).sigmoid_()
            grad_logits = (scores * of_scores[chunk]).addcmul_(masks[mask_index[chunk]], of_targets[chunk])
            grad_logits.mul_(scores).mul_(scores.neg_().add_(1))
            torch.mm(grad_logits, mask_features.T, out=grad_kernels[chunk])
            grad_features.addmm_(kernels[chunk].T, grad_logits)
        return grad_kernels, grad_features, None, None, None


def dynamic_mask_dice_loss(
    kernels: Tensor,
    mask_features: Tensor,
    masks: Tensor,
    mask_index: Tensor,
) -> Tensor:
    """Return the dice loss of each term, a kernel and its target mask: (R,) float32.

    :func:`dice_loss` of the sigmoids of a kernel times the mask features. Both passes process terms in chunks, and the
    backward pass recomputes the probabilities, so memory beyond the inputs and their gradients does not grow with R.

    Args:
        kernels: (R, E), one per term.
        mask_features: (E, P), of all P pixels of one image.
        masks: (M, P) bool, target masks.
        mask_index: (R,) int64, row of ``masks`` for each term.
    """
    rows = rows_per_chunk(4 * mask_features.shape[1])
    with torch.autocast(kernels.device.type, enabled=False):
        return _DynamicMaskDice.apply(kernels.float(), mask_features.float(), masks, mask_index, rows)
