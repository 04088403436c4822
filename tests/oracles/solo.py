"""SOLO's masks and decoding, slow and literal: every map is computed, as the method is described. For tests only."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from centermask_solo.modeling.solo.predictions import Predictions, SOLOPredictions


def enlarged(x: Tensor, size: tuple[int, int]) -> Tensor:
    """A stack of maps (C, h, w) at another size, bilinear."""
    return F.interpolate(x[None], size, mode="bilinear", align_corners=False)[0]


def factors(predictions: Predictions, image: int, level: int) -> list[Tensor]:
    """The logits of all cells of a level, (S * S, h, w): one for each cell, or those of its column and of its row."""
    if isinstance(predictions, SOLOPredictions):
        features = predictions.mask_features[level][image]
        features = enlarged(features, (2 * features.shape[1], 2 * features.shape[2]))
        kernels, biases = predictions.kernels[level].flatten(1), predictions.biases[level]
        return [torch.einsum("kc,chw->khw", kernels, features) + biases[:, None, None]]
    columns, rows = predictions.column_logits[level][image], predictions.row_logits[level][image]
    side = len(columns)
    pairs = [(i, j) for i in range(side) for j in range(side)]
    return [torch.stack([columns[j] for _, j in pairs]), torch.stack([rows[i] for i, _ in pairs])]


def probabilities(predictions: Predictions, image: int, size: tuple[int, int]) -> Tensor:
    """The mask probabilities of all cells of all levels at stride 4, (cells, *size)."""
    found = []
    for level in range(len(predictions.class_logits)):
        maps = [enlarged(x.sigmoid(), size) for x in factors(predictions, image, level)]
        found.append(maps[0] if len(maps) == 1 else maps[0] * maps[1])
    return torch.cat(found)


def candidates(
    predictions: Predictions,
    image: int,
    size: tuple[int, int],
    strides: list[int],
    score_thresh: float,
    mask_thresh: float,
    limit: int,
) -> list[tuple[float, int, int]]:
    """(score, class, cell) of an image's candidates, best first: every cell and class on its own."""
    masks, found, cell = probabilities(predictions, image, size), [], -1
    for maps, stride in zip(predictions.class_logits, strides, strict=True):
        scores = maps[image].sigmoid()
        side = scores.shape[1]
        for i, j in ((i, j) for i in range(side) for j in range(side)):
            cell += 1
            inside = masks[cell] > mask_thresh
            for k, of_class in enumerate(scores):
                neighbors = [of_class[y, x] for y, x in ((i - 1, j), (i, j - 1), (i - 1, j - 1)) if min(y, x) >= 0]
                score = of_class[i, j]
                if score > score_thresh and all(score >= n for n in neighbors) and int(inside.sum()) > stride:
                    found.append((float(score * masks[cell][inside].mean()), k, cell))
    return sorted(found, key=lambda candidate: -candidate[0])[:limit]
