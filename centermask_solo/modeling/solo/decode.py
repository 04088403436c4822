"""From SOLO's outputs to candidates with masks, and to the mask probabilities of chosen cells.

Everything is computed in float32, one image at a time. Memory is bounded no matter how many cells pass the threshold:
probabilities exist for one chunk of cells, and boolean masks for the candidates that may still be kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...ops.host_reads import avoids_host_reads
from ...ops.precision import in_float32
from ..solov2.decode import best_pairs, candidate_scores, cell_strides
from ..solov2.fixed_decode import BatchMaskScores
from ..solov2.full_masks import MaskScores
from .predictions import CellMasks, Predictions


class Candidates(NamedTuple):
    """What enters NMS for one image, best first.

    Attributes:
        scores: (M,) float32, class probability times the mean probability within the mask.
        pred_classes: (M,) int64.
        pred_masks: (M, T_h / 4, T_w / 4) bool, of the padded input.
        cells: (M,) int64, counted through all levels in order and row by row within one.
    """

    scores: Tensor
    pred_classes: Tensor
    pred_masks: Tensor
    cells: Tensor


def decode_batch(
    predictions: Predictions,
    *,
    size: tuple[int, int],
    strides: Sequence[int],
    score_thresh: float,
    mask_thresh: float,
    max_candidates: int,
) -> Iterator[Candidates]:
    """Yield the candidates of each image, at most ``max_candidates``; each image is decoded when it is asked for.

    Every (cell, class) above ``score_thresh`` after point NMS is a candidate unless its mask has too few pixels. Ties
    are ordered by level, cell and class. Cells with non-finite logits or masks are dropped.

    Args:
        predictions: Predictions of the batch.
        size: Height and width of the masks, T_h / 4 and T_w / 4.
        strides: Strides of the levels; a mask must have more pixels (at stride 4) than this number.
        score_thresh: Minimum class probability, exclusive.
        mask_thresh: Minimum probability of a mask's pixels, exclusive.
        max_candidates: Number of candidates to keep, by score.

    Source: the published code of SOLO, whose post-processing is SOLOv2's.
    """
    for image in range(len(predictions.class_logits[0])):
        yield _decode_image(predictions, image, size, strides, score_thresh, mask_thresh, max_candidates)


@torch.no_grad()
def _decode_image(
    predictions: Predictions,
    image: int,
    size: tuple[int, int],
    strides: Sequence[int],
    score_thresh: float,
    mask_thresh: float,
    max_candidates: int,
) -> Candidates:
    """Return the candidates of one image; see :func:`decode_batch`."""
    class_logits = [x[image : image + 1] for x in predictions.class_logits]
    class_scores = candidate_scores(class_logits, score_thresh)[0]
    best, masks = best_pairs(
        class_scores,
        cell_probabilities(predictions, image, size),
        size[0] * size[1],
        cell_strides(class_logits, strides),
        mask_thresh,
        max_candidates,
    )
    num_classes = class_scores.shape[1]
    return Candidates(
        best.scores, best.pairs % num_classes, masks[best.rows].unflatten(1, size), best.pairs // num_classes
    )


def cell_probabilities(predictions: Predictions, image: int, size: tuple[int, int]) -> MaskScores:
    """Return the function from cells of an image, counted through all levels, to their masks of ``size``."""
    if avoids_host_reads(predictions.class_logits[0].device):
        return _of_one(batch_probabilities(predictions, slice(image, image + 1), size))
    masks = predictions.masks_of(image)
    cells_per_level = [x.shape[2] * x.shape[3] for x in predictions.class_logits]
    device = predictions.class_logits[0].device
    ends = torch.tensor(cells_per_level, device=device).cumsum(0)

    def probabilities_of(cells: Tensor) -> tuple[Tensor, Tensor]:
        probabilities = torch.empty(len(cells), size[0] * size[1], device=device)
        finite = torch.empty(len(cells), dtype=torch.bool, device=device)
        levels = torch.bucketize(cells, ends, right=True)
        counts = torch.bincount(levels, minlength=len(cells_per_level)).tolist()
        start = 0
        for level, rows in enumerate(levels.argsort(stable=True).split(counts)):
            if len(rows):
                found, finite[rows] = _level_probabilities(masks, level, cells[rows] - start, size)
                probabilities[rows] = found.flatten(1)
            start += cells_per_level[level]
        return probabilities, finite

    return probabilities_of


def _of_one(of_batch: BatchMaskScores) -> MaskScores:
    """Return the function of one image's cells from that of a batch of one."""

    def probabilities_of(cells: Tensor) -> tuple[Tensor, Tensor]:
        probabilities, finite = of_batch(cells[None])
        return probabilities[0].flatten(1), finite[0]

    return probabilities_of


def batch_probabilities(predictions: Predictions, images: slice, size: tuple[int, int]) -> BatchMaskScores:
    """Return the function from cells (N, R) of some images to their masks of ``size``, in fixed shapes.

    Masks are computed on every level, as if all cells were there: which cells are on which is not known on the host.
    """
    masks = predictions.masks_of(images)
    cells_per_level = [x.shape[2] * x.shape[3] for x in predictions.class_logits]

    def probabilities_of(cells: Tensor) -> tuple[Tensor, Tensor]:
        probabilities, finite = _level_probabilities(masks, 0, cells.clamp(max=cells_per_level[0] - 1), size)
        start = cells_per_level[0]
        for level, count in enumerate(cells_per_level[1:], start=1):
            of_level, is_finite = _level_probabilities(masks, level, (cells - start).clamp(0, count - 1), size)
            here = cells >= start
            probabilities = torch.where(here[:, :, None, None], of_level, probabilities)
            finite = (here & is_finite) | (~here & finite)  # ONNX Runtime cannot choose between booleans by Where
            start += count
        return probabilities, finite

    return probabilities_of


def _level_probabilities(masks: CellMasks, level: int, cells: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the masks of a level's cells, (..., R, *size) float32, and which of them are finite, (..., R) bool.

    As in the published code, probabilities are resized, not logits: those of columns and rows, before their product.
    """
    with in_float32(cells):
        factors = [x.float() for x in masks.logits(level, cells)]
    finite = torch.stack([x.sum(dim=(-2, -1)).isfinite() for x in factors]).all(dim=0)
    for i, x in enumerate(factors):
        x = x.sigmoid_()
        if x.shape[-2:] != size:
            x = F.interpolate(x.view(-1, *x.shape[-3:]), size, mode="bilinear", align_corners=False).view(
                *x.shape[:-2], *size
            )
        factors[i] = x
    first, *others = factors
    for other in others:
        first.mul_(other)
    return first, finite
