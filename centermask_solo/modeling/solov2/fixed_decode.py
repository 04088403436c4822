"""Decoding of grids of cells in fixed shapes, for GPUs and exported files: nothing depends on what an image shows.

The best (cell, class) pairs by class score are decoded, always the same number of them. Their masks are computed a
constant number at a time, so that memory does not depend on how many objects there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...ops.masks import extents_to_boxes
from ...ops.topk import MAX_TOPK, stable_topk
from ..detections import Detections
from ..instance_nms import InstanceNMS, NMSCandidates
from .decode import candidate_scores, cell_strides
from .ground_truth import MASK_STRIDE

MASKS_AT_ONCE = 128  # of each image; 31 MB of float32 each 1,000 x 1,000 pixels of the input

# From cells (N, R) int64 to their mask probabilities (N, R, h, w) float32, and to which are finite, (N, R) bool.
BatchMaskScores = Callable[[Tensor], tuple[Tensor, Tensor]]


@torch.no_grad()
def detect_cells(
    class_logits: Sequence[Tensor],
    mask_scores: BatchMaskScores,
    nms: InstanceNMS,
    *,
    strides: Sequence[int],
    score_thresh: float,
    mask_thresh: float,
    max_candidates: int,
    max_detections: int,
) -> Detections:
    """Return the detections of a batch, with the field ``cells``, (N, K) int64; boxes are those of the masks.

    They are those of ``decode_batch`` and NMS where no more than ``max_candidates`` pairs of an image pass, or where
    none that were left out could score above the last slot: there ``exact`` is True.

    Args:
        class_logits: L x (N, K, S, S).
        mask_scores: Returns the mask probabilities of cells, counted through all levels.
        nms: Suppresses duplicates.
        strides: Strides of the levels; a mask must have more pixels (at stride 4) than this number.
        score_thresh: Minimum class probability, exclusive.
        mask_thresh: Minimum probability of a mask's pixels, exclusive.
        max_candidates: Number of pairs to decode; at most 3,840 are.
        max_detections: Number K of slots.

    Raises:
        ConfigError: The rule of NMS has no fixed shape.
    """
    class_scores, pairs, best_left_out = _best_pairs(candidate_scores(class_logits, score_thresh), max_candidates)
    num_classes = class_logits[0].shape[1]
    cells, classes = pairs.div(num_classes, rounding_mode="floor"), pairs % num_classes
    min_areas = cell_strides(class_logits, strides)[cells]
    masks, boxes, maskness = _decode_masks(cells, mask_scores, min_areas, mask_thresh)
    shapes = masks if "pred_masks" in nms.inputs else boxes
    candidates = NMSCandidates(shapes, class_scores * maskness, classes, None)
    kept = nms.fixed(candidates, min(max_detections, pairs.shape[1]))

    def of_slots(values: Tensor) -> Tensor:
        """Return the values (N, R, ...) of the slots, (N, K, ...), 0 in empty ones."""
        index = kept.rows.unflatten(1, (-1, *[1] * (values.ndim - 2))).expand(-1, -1, *values.shape[2:])
        found = values.gather(1, index)
        filled = (kept.scores > 0).unflatten(1, (-1, *[1] * (values.ndim - 2)))
        padding = [0, 0] * (values.ndim - 2) + [0, max_detections - kept.rows.shape[1]]
        return torch.nn.functional.pad(torch.where(filled, found, torch.zeros_like(found)), padding)

    scores = torch.nn.functional.pad(kept.scores, [0, max_detections - kept.scores.shape[1]])
    return Detections(
        boxes=of_slots(boxes),
        scores=scores,
        classes=of_slots(classes),
        num_detections=(scores > 0).sum(dim=1),
        exact=(best_left_out == 0) | (scores[:, -1] > best_left_out),
        fields={"cells": of_slots(cells)},
    )


def _best_pairs(class_scores: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the scores (N, R) of the best (cell, class) pairs, the pairs in their order, and the best score left out.

    Args:
        class_scores: (N, cells, K) float32, 0 where not a candidate.
        limit: Number R of pairs, if there are so many.
    """
    scores = class_scores.flatten(1)
    num_pairs = min(limit, MAX_TOPK - 1, scores.shape[1])
    best, pairs = stable_topk(scores, num_pairs + 1)
    left_out = best[:, num_pairs:].sum(dim=1)  # one or none
    # Ascending, in which order equal scores are to be ranked later; by a top-k of constant number, as TensorRT needs.
    pairs = -(-pairs[:, :num_pairs]).topk(num_pairs, dim=1).values
    return scores.gather(1, pairs), pairs, left_out


def _decode_masks(
    cells: Tensor, mask_scores: BatchMaskScores, min_areas: Tensor, mask_thresh: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the masks (N, R, h, w) bool of cells (N, R), their boxes (N, R, 4), and their maskness (N, R), 0 if none.

    Args:
        cells: (N, R) int64.
        mask_scores: Returns the mask probabilities of cells.
        min_areas: (N, R), pixels; masks must have more.
        mask_thresh: Minimum probability of a mask's pixels, exclusive.
    """
    masks, found = [], []
    for chunk, areas_above in zip(
        cells.split(MASKS_AT_ONCE, dim=1), min_areas.split(MASKS_AT_ONCE, dim=1), strict=True
    ):
        probabilities, finite = mask_scores(chunk)
        above = probabilities > mask_thresh
        probabilities = torch.where(above, probabilities, 0.0)
        totals = probabilities.sum(dim=(2, 3))
        pixels = probabilities.ceil()
        areas = pixels.sum(dim=(2, 3))
        valid = finite & (areas > areas_above)
        maskness = torch.where(valid, totals / areas.clamp(min=1), 0.0)
        masks.append(above)
        # In one tensor: runtimes might leave one of several for later, and keep the probabilities of all chunks for it.
        found.append(torch.cat([maskness[:, :, None], pixels.amax(dim=2), pixels.amax(dim=3)], dim=2))
    all_masks = torch.cat(masks, dim=1)
    maskness, columns, rows = torch.cat(found, dim=1).split([1, all_masks.shape[3], all_masks.shape[2]], dim=2)
    return all_masks, MASK_STRIDE * extents_to_boxes(columns, rows), maskness[:, :, 0]
