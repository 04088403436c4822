"""From SOLOv2's outputs to candidates with masks, and from chosen kernels to masks of the output size. No Instances.

One image at a time, in float32 whatever the precision of the networks. Memory stays bounded however many cells pass the
threshold: probabilities exist for one chunk of cells, and boolean masks for the candidates that may still be chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...ops.masks import axis_resize, resize_and_threshold_

CHUNK_FLOATS = 2**23  # mask probabilities that exist at once: 32 MB, 124 masks of an input of 800 x 1333 pixels


class Candidates(NamedTuple):
    """What enters NMS, best first.

    Attributes:
        scores: (M,) float32, class probability times the mean probability within the mask.
        pred_classes: (M,) int64.
        pred_masks: (M, T_h / 4, T_w / 4) bool, of the padded input.
        kernels: (M, E) float32; times the mask features, the mask logits.
    """

    scores: Tensor
    pred_classes: Tensor
    pred_masks: Tensor
    kernels: Tensor


class _Best(NamedTuple):
    """The best (cell, class) pairs so far, best first."""

    scores: Tensor  # (R,) float32
    pairs: Tensor  # (R,) int64, cell x K + class
    rows: Tensor  # (R,) int64, of the stored masks


def point_nms(class_scores: Tensor) -> Tensor:
    """``class_scores`` with 0 where the left, the upper or the upper left neighbour is higher; equal ones both stay.

    Args:
        class_scores: (..., S, S), not negative.

    Source: SOLO's published code. The other neighbours are deliberately not looked at: the published figures are
        those of this rule.
    """
    highest = F.max_pool2d(class_scores, 2, stride=1, padding=1)[..., :-1, :-1]
    return torch.where(class_scores == highest, class_scores, 0.0)


@torch.no_grad()
def decode_image(
    class_logits: Sequence[Tensor],
    kernels: Sequence[Tensor],
    mask_features: Tensor,
    *,
    strides: Sequence[int],
    score_thresh: float,
    mask_thresh: float,
    max_candidates: int,
) -> Candidates:
    """The candidates of one image, at most ``max_candidates``.

    Every (cell, class) above ``score_thresh`` after :func:`point_nms` is one, unless its mask has too few pixels. Of
    equal scores the lower level, then the earlier cell, then the lower class comes first. Cells with logits or masks
    that are not finite give nothing.

    Args:
        class_logits: L x (K, S, S).
        kernels: L x (E, S, S).
        mask_features: (E, T_h / 4, T_w / 4).
        strides: of the levels; a mask must have more pixels (of stride 4) than this number.
        score_thresh: class probability, strictly above.
        mask_thresh: probability of a mask's pixels, strictly above.
        max_candidates: how many are kept, by score.

    Source: SOLOv2 (arXiv 2003.10152), section 3.4; filter and re-scoring as in the published code.
    """
    with _float32(mask_features):
        class_scores = _flatten([point_nms(_probabilities(x)) for x in class_logits])
        class_scores = torch.where(class_scores > score_thresh, class_scores, 0.0)
        cell_kernels = _flatten(kernels).float()
        features = mask_features.float()
        cells_per_level = [x.shape[1] * x.shape[2] for x in kernels]
        min_areas = torch.cat([features.new_full((n,), s) for n, s in zip(cells_per_level, strides, strict=True)])
        best, masks = _best_pairs(
            class_scores, cell_kernels, features.flatten(1), min_areas, mask_thresh, max_candidates
        )
        num_classes = class_scores.shape[1]
        return Candidates(
            best.scores,
            best.pairs % num_classes,
            masks[best.rows].unflatten(1, features.shape[1:]),
            cell_kernels[best.pairs // num_classes],
        )


def _best_pairs(
    class_scores: Tensor, kernels: Tensor, features: Tensor, min_areas: Tensor, mask_thresh: float, limit: int
) -> tuple[_Best, Tensor]:
    """The ``limit`` best (cell, class) pairs and the stored masks (rows, P) bool that they refer to.

    Cells are decoded once each, those with the highest class score first. A mask's mean probability is at most 1, so a
    pair never scores above its class; once ``limit`` pairs score above the class score of the next cell, no further
    one can enter. The result is that of decoding all.

    Args:
        class_scores: (cells, K) float32, 0 where not a candidate.
        kernels: (cells, E) float32.
        features: (E, P) float32.
        min_areas: (cells,), pixels; masks must have more.
        mask_thresh: see :func:`decode_image`.
        limit: see :func:`decode_image`.
    """
    highest, order = class_scores.amax(dim=1).sort(descending=True, stable=True)
    num_cells = int((highest > 0).sum())
    chunk = max(CHUNK_FLOATS // max(features.shape[1], 1), 1)
    stored = features.new_empty(min(num_cells, limit + chunk), features.shape[1], dtype=torch.bool)
    best = _Best(highest[:0], order[:0], order[:0])
    for start in range(0, num_cells, chunk):
        if len(best.scores) == limit and bool(highest[start] < best.scores[-1]):
            break
        cells = order[start : min(start + chunk, num_cells)]
        rows = _free_rows(best.rows, len(stored))[: len(cells)]
        probabilities, finite = _mask_probabilities(kernels[cells], features)
        # From here on 0 stands for whatever is not in the mask.
        probabilities = torch.threshold_(probabilities, mask_thresh, 0.0)
        stored[rows] = probabilities > 0
        totals = probabilities.sum(dim=1)
        areas = probabilities.ceil_().sum(dim=1)  # on a CPU several times faster than counting booleans
        maskness = totals / areas.clamp(min=1)
        maskness = torch.where(finite & (areas > min_areas[cells]), maskness, 0.0)
        best = _merge(best, class_scores[cells] * maskness[:, None], cells, rows, limit)
    return best, stored


def _merge(best: _Best, scores: Tensor, cells: Tensor, rows: Tensor, limit: int) -> _Best:
    """The ``limit`` best of ``best`` and of the pairs of some cells, whose ``scores`` are (cells, K), 0 for none."""
    everything = torch.cat([best.scores, scores.flatten()])
    lowest = everything.topk(min(limit, len(everything))).values[-1]
    index, classes = ((scores > 0) & (scores >= lowest)).nonzero(as_tuple=True)
    merged = _Best(
        torch.cat([best.scores, scores[index, classes]]),
        torch.cat([best.pairs, cells[index] * scores.shape[1] + classes]),
        torch.cat([best.rows, rows[index]]),
    )
    order = merged.pairs.argsort()
    order = order[merged.scores[order].argsort(descending=True, stable=True)][:limit]
    return _Best(merged.scores[order], merged.pairs[order], merged.rows[order])


def _free_rows(used: Tensor, num_rows: int) -> Tensor:
    """All rows, those that are not ``used`` first."""
    occupied = torch.zeros(num_rows, dtype=torch.uint8, device=used.device)
    occupied[used] = 1
    return occupied.argsort(stable=True)


@torch.no_grad()
def decode_full_masks(
    kernels: Tensor,
    mask_features: Tensor,
    *,
    stride: int,
    image_size: tuple[int, int],
    output_size: tuple[int, int],
    mask_thresh: float,
) -> Tensor:
    """The masks that ``kernels`` give at ``output_size``: (M, H, W) bool. Probabilities are resized, then thresholded.

    Args:
        kernels: (M, E).
        mask_features: (E, T_h / stride, T_w / stride).
        stride: input pixels of one pixel of the mask features.
        image_size: height and width of the image in the network's input, without padding.
        output_size: H and W.
        mask_thresh: probability of a mask's pixels, strictly above.

    Source: the published code: enlarged by ``stride``, cropped to ``image_size``, resized to ``output_size``.
    Differs: AdelaiDet enlarges by ceil(h / Hf), which is less than ``stride`` for an image much smaller than its batch.
    """
    size, device = mask_features.shape[1:], mask_features.device
    rows, columns = (
        axis_resize(n, out, device, scale=stride, crop=crop)
        for n, out, crop in zip(size, output_size, image_size, strict=True)
    )
    masks = torch.zeros(len(kernels), *output_size, dtype=torch.bool, device=device)
    with _float32(mask_features):
        features = mask_features.float().flatten(1)
        step = max(CHUNK_FLOATS // max(features.shape[1], 1), 1)
        for chunk, out in zip(kernels.float().split(step), masks.split(step), strict=True):
            probabilities = _mask_probabilities(chunk, features)[0].unflatten(1, size)
            resize_and_threshold_(out, probabilities, rows, columns, mask_thresh)
    return masks


def _mask_probabilities(kernels: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Mask probabilities (R, P) of kernels (R, E) and features (E, P), and which rows are finite, (R,) bool."""
    logits = kernels @ features
    finite = logits.sum(dim=1).isfinite()
    return logits.sigmoid_(), finite


def _probabilities(logits: Tensor) -> Tensor:
    """The sigmoid in float32, 0 where ``logits`` are not finite."""
    return torch.where(logits.isfinite(), logits.float().sigmoid(), 0.0)


def _flatten(maps: Sequence[Tensor]) -> Tensor:
    """Maps (C, S, S) of all levels as (cells, C)."""
    return torch.cat([x.flatten(1) for x in maps], dim=1).T


def _float32(x: Tensor) -> AbstractContextManager[None]:
    """A context in which matrix products on the device of ``x`` stay in float32, whatever is around."""
    return torch.autocast(x.device.type, enabled=False)
