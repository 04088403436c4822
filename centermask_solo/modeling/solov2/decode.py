"""From SOLOv2's outputs to candidates with masks.

Everything is computed in float32, one image at a time. Memory is bounded no matter how many cells pass the threshold:
probabilities exist for one chunk of cells, and boolean masks for the candidates that may still be kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...ops.chunks import rows_per_chunk
from ...ops.levels import flatten_levels
from ...ops.precision import in_float32
from .full_masks import MaskScores, mask_probabilities


class Candidates(NamedTuple):
    """What enters NMS for one image, best first.

    Attributes:
        scores: (M,) float32, class probability times the mean probability within the mask.
        pred_classes: (M,) int64.
        pred_masks: (M, T_h / 4, T_w / 4) bool, of the padded input.
        kernels: (M, E) float32; the mask logits are these times the mask features.
    """

    scores: Tensor
    pred_classes: Tensor
    pred_masks: Tensor
    kernels: Tensor


class Best(NamedTuple):
    """The best (cell, class) pairs so far, best first."""

    scores: Tensor  # (R,) float32
    pairs: Tensor  # (R,) int64, cell x K + class
    rows: Tensor  # (R,) int64, rows of the stored masks


def point_nms(class_scores: Tensor) -> Tensor:
    """Return ``class_scores``, zeroed where the left, upper or upper left neighbor is higher; equal ones both stay.

    Args:
        class_scores: (..., S, S), non-negative.

    Source: SOLO's published code, which deliberately ignores the other neighbors; the published results depend on it.
    """
    highest = F.max_pool2d(class_scores, 2, stride=1, padding=1)[..., :-1, :-1]
    return torch.where(class_scores == highest, class_scores, 0.0)


def decode_batch(
    class_logits: Sequence[Tensor],
    kernels: Sequence[Tensor],
    mask_features: Tensor,
    *,
    strides: Sequence[int],
    score_thresh: float,
    mask_thresh: float,
    max_candidates: int,
) -> Iterator[Candidates]:
    """Yield the candidates of each image, at most ``max_candidates``; each image is decoded when it is asked for.

    Every (cell, class) above ``score_thresh`` after :func:`point_nms` is a candidate unless its mask has too few
    pixels. Ties are ordered by level, cell and class. Cells with non-finite logits or masks are dropped.

    Args:
        class_logits: L x (N, K, S, S).
        kernels: L x (N, E, S, S).
        mask_features: (N, E, T_h / 4, T_w / 4).
        strides: Strides of the levels; a mask must have more pixels (at stride 4) than this number.
        score_thresh: Minimum class probability, exclusive.
        mask_thresh: Minimum probability of a mask's pixels, exclusive.
        max_candidates: Number of candidates to keep, by score.

    Source: SOLOv2 (arXiv 2003.10152), section 3.4; filter and re-scoring as in the published code.
    """
    for i in range(mask_features.shape[0]):
        yield _decode_image(
            [x[i : i + 1] for x in class_logits],
            [x[i : i + 1] for x in kernels],
            mask_features[i],
            strides=strides,
            score_thresh=score_thresh,
            mask_thresh=mask_thresh,
            max_candidates=max_candidates,
        )


@torch.no_grad()
def _decode_image(
    class_logits: Sequence[Tensor],
    kernels: Sequence[Tensor],
    mask_features: Tensor,
    *,
    strides: Sequence[int],
    score_thresh: float,
    mask_thresh: float,
    max_candidates: int,
) -> Candidates:
    """Return the candidates of one image: :func:`decode_batch` with N = 1 and mask features (E, T_h / 4, T_w / 4)."""
    with in_float32(mask_features):
        class_scores = candidate_scores(class_logits, score_thresh)[0]
        cell_kernels = flatten_levels(kernels)[0].float()
        features = mask_features.float().flatten(1)
        best, masks = best_pairs(
            class_scores,
            lambda cells: mask_probabilities(cell_kernels[cells], features),
            features.shape[1],
            cell_strides(class_logits, strides),
            mask_thresh,
            max_candidates,
        )
        num_classes = class_scores.shape[1]
        return Candidates(
            best.scores,
            best.pairs % num_classes,
            masks[best.rows].unflatten(1, mask_features.shape[1:]),
            cell_kernels[best.pairs // num_classes],
        )


def candidate_scores(class_logits: Sequence[Tensor], score_thresh: float) -> Tensor:
    """Return the class probabilities of all cells, (N, cells, K) float32, 0 where not a candidate.

    Args:
        class_logits: L x (N, K, S, S).
        score_thresh: Minimum class probability, exclusive.
    """
    class_scores = flatten_levels([point_nms(_probabilities(x)) for x in class_logits])
    return torch.where(class_scores > score_thresh, class_scores, 0.0)


def cell_strides(class_logits: Sequence[Tensor], strides: Sequence[int]) -> Tensor:
    """Return the stride of each cell's level, (cells,) float32, from L x (N, K, S, S) and a stride per level."""
    sizes = [x.shape[2] * x.shape[3] for x in class_logits]
    device = class_logits[0].device
    return torch.cat([torch.full((n,), float(s), device=device) for n, s in zip(sizes, strides, strict=True)])


def best_pairs(
    class_scores: Tensor,
    mask_scores: MaskScores,
    num_pixels: int,
    min_areas: Tensor,
    mask_thresh: float,
    limit: int,
) -> tuple[Best, Tensor]:
    """Return the ``limit`` best (cell, class) pairs and the stored masks (rows, P) bool that they refer to.

    Each cell is decoded once, in the order of its highest class score. The mean probability of a mask is at most 1, so
    a pair never scores above its class; decoding stops, with the result of decoding all cells, once ``limit`` pairs
    score above the class score of the next cell.

    Args:
        class_scores: (cells, K) float32, 0 where not a candidate.
        mask_scores: Returns the mask probabilities of cells, which are overwritten.
        num_pixels: P.
        min_areas: (cells,), pixels; masks must have more.
        mask_thresh: Minimum probability of a mask's pixels, exclusive.
        limit: Number of pairs to keep.
    """
    highest, order = class_scores.amax(dim=1).sort(descending=True, stable=True)
    num_cells = int((highest > 0).sum())
    chunk = rows_per_chunk(4 * num_pixels)
    stored = torch.empty(min(num_cells, limit + chunk), num_pixels, dtype=torch.bool, device=class_scores.device)
    best = Best(highest[:0], order[:0], order[:0])
    for start in range(0, num_cells, chunk):
        if len(best.scores) == limit and bool(highest[start] < best.scores[-1]):
            break
        cells = order[start : min(start + chunk, num_cells)]
        rows = _free_rows(best.rows, len(stored))[: len(cells)]
        probabilities, finite = mask_scores(cells)
        # Pixels outside of the mask are 0 from here on.
        probabilities = torch.threshold_(probabilities, mask_thresh, 0.0)
        stored[rows] = probabilities > 0
        totals = probabilities.sum(dim=1)
        areas = probabilities.ceil_().sum(dim=1)  # on a CPU several times faster than counting booleans
        maskness = totals / areas.clamp(min=1)
        maskness = torch.where(finite & (areas > min_areas[cells]), maskness, 0.0)
        best = _merge(best, class_scores[cells] * maskness[:, None], cells, rows, limit)
    return best, stored


def _merge(best: Best, scores: Tensor, cells: Tensor, rows: Tensor, limit: int) -> Best:
    """Return the ``limit`` best of ``best`` and the pairs of more cells, with ``scores`` (cells, K), 0 for none."""
    everything = torch.cat([best.scores, scores.flatten()])
    lowest = everything.topk(min(limit, len(everything))).values[-1]
    index, classes = ((scores > 0) & (scores >= lowest)).nonzero(as_tuple=True)
    merged = Best(
        torch.cat([best.scores, scores[index, classes]]),
        torch.cat([best.pairs, cells[index] * scores.shape[1] + classes]),
        torch.cat([best.rows, rows[index]]),
    )
    order = merged.pairs.argsort()
    order = order[merged.scores[order].argsort(descending=True, stable=True)][:limit]
    return Best(merged.scores[order], merged.pairs[order], merged.rows[order])


def _free_rows(used: Tensor, num_rows: int) -> Tensor:
    """Return all rows, those that are not ``used`` first."""
    occupied = torch.zeros(num_rows, dtype=torch.uint8, device=used.device)
    occupied[used] = 1
    return occupied.argsort(stable=True)


def _probabilities(logits: Tensor) -> Tensor:
    """Return the sigmoid in float32, 0 where ``logits`` are not finite."""
    return torch.where(logits.isfinite(), logits.float().sigmoid(), 0.0)
