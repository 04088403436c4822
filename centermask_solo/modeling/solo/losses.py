"""SOLO's mask loss: a mean in float32 (float64 in a model of that precision), not weighted.

The class loss is SOLOv2's.
"""

from __future__ import annotations

from functools import reduce
from math import prod

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ...ops.chunks import rows_per_chunk
from ...ops.losses import dice_loss
from ...ops.precision import in_float32
from ..parts_of_batch import per_part, total
from .predictions import CellMasks, Predictions
from .targets import SOLOTargets

PIXEL_BYTES = 4 * 4  # of a term: its probability, its target, and the gradients of two of the loss's sums


def dice_terms(predictions: Predictions, targets: SOLOTargets) -> Tensor:
    """Return the dice loss of each foreground cell, (R,), in the order of ``targets``.

    Terms are computed in chunks, and again in the backward pass, so memory does not grow with their number.
    """
    terms: list[Tensor] = []
    start = 0
    with in_float32(predictions.class_logits[0]):
        masks = [predictions.masks_of(i) for i in range(len(predictions.class_logits[0]))]
        for level, counts in enumerate(targets.counts):
            step = rows_per_chunk(PIXEL_BYTES * prod(targets.masks[level].shape[1:]))
            for image, count in enumerate(counts):
                of_image = slice(start, start + count)
                chunks = zip(targets.cells[of_image].split(step), targets.mask_rows[of_image].split(step), strict=True)
                for cells, rows in chunks if count else ():
                    arguments = (masks[image], level, cells, targets.masks[level], rows)
                    term = checkpoint(_dice_of_cells, *arguments, use_reentrant=False, preserve_rng_state=False)
                    terms.append(term)
                start += count
        return torch.cat(terms)


def _dice_of_cells(masks: CellMasks, level: int, cells: Tensor, gt_masks: Tensor, rows: Tensor) -> Tensor:
    """Return the dice loss of some cells of a level, (R,)."""
    scores = reduce(torch.mul, (x.sigmoid() for x in masks.logits(level, cells)))
    return dice_loss(scores.flatten(1), gt_masks[rows].flatten(1))


def mask_loss(predictions: Predictions, targets: SOLOTargets) -> Tensor:
    """Return the mean of :func:`dice_terms` over the batch, a scalar; 0 if there are none.

    Differs: the published code fails on a batch without terms. Here levels without terms get zero gradients, which
        distributed training needs.
    """
    unused = [x for i, counts in enumerate(targets.counts) if not any(counts) for x in predictions.mask_inputs(i)]
    nothing = 0.0 * torch.stack([x.float().sum() for x in unused]).sum() if unused else 0.0
    num_terms = total("dice terms", targets.num_positive)
    if not targets.num_positive:
        return torch.as_tensor(nothing)
    return dice_terms(predictions, targets).sum() / per_part(num_terms) + nothing
