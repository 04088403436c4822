"""Suppression rules on a matrix of overlaps: which of the ranked instances stay, or with what scores. No policy."""

from __future__ import annotations

import torch
from torch import Tensor

MATRIX_NMS_KERNELS = ("gaussian", "linear")


def competing_overlaps(ious: Tensor, classes: Tensor | None) -> Tensor:
    """The overlap of each instance (column) with each better one (row) that it competes with, 0 elsewhere: (M, M).

    Args:
        ious: (M, M) float, overlaps in 0..1 of instances ranked best first.
        classes: (M,) int64, only instances of one class compete; None: all do.
    """
    overlaps = ious.triu(diagonal=1)
    return overlaps if classes is None else overlaps * (classes[:, None] == classes)


def matrix_nms(
    ious: Tensor, classes: Tensor | None, scores: Tensor, kernel: str = "gaussian", sigma: float = 2.0
) -> Tensor:
    """The scores after Matrix NMS, (M,) in the order given: none is higher than before, none is dropped.

    An instance loses by its worst overlap u with a better one, which counts the less the more that one itself overlaps
    (o) with something still better: the score is multiplied by the smallest ``f(u) / f(o)``, with f(u) =
    exp(-sigma u²) or 1 - u. Of equal scores the earlier instance counts as the better.

    Args:
        ious: (M, M) float, overlaps in 0..1 of instances ranked best first.
        classes: (M,) int64, only instances of one class compete; None: all do.
        scores: (M,) float, descending.
        kernel: f, "gaussian" or "linear".
        sigma: of the Gaussian.

    Raises:
        ValueError: an unknown kernel.

    Source: SOLOv2 (arXiv 2003.10152), section 3.4 and its listing; with classes, and with ``sigma`` as a factor, as in
        the published code (the paper divides by 0.5).
    Differs: with the linear kernel the third of three identical masks gets 0 and not 0 / 0. Both are dropped.
    """
    if kernel not in MATRIX_NMS_KERNELS:
        raise ValueError(f"The kernel of Matrix NMS must be one of {', '.join(MATRIX_NMS_KERNELS)}, not {kernel!r}.")
    if len(scores) == 0:
        return scores.clone()
    overlaps = competing_overlaps(ious, classes)
    of_better = overlaps.amax(dim=0)[:, None]  # of each row, the largest overlap with what is better than it
    if kernel == "gaussian":
        # The smallest of all ratios of exponentials is the exponential of the largest difference.
        decay = torch.exp(-sigma * (overlaps.square() - of_better.square()).amax(dim=0).clamp(min=0))
    else:
        remaining, remaining_of_better = 1 - overlaps, 1 - of_better
        ratios = torch.where(remaining == 0, 0.0, remaining / remaining_of_better)
        decay = ratios.amin(dim=0).clamp(max=1)
    return scores * decay


def greedy_nms(ious: Tensor, classes: Tensor | None, iou_thresh: float) -> Tensor:
    """Which instances greedy NMS keeps, (M,) bool: those that no kept better one overlaps by more than the threshold.

    Args:
        ious: (M, M) float, overlaps in 0..1 of instances ranked best first.
        classes: (M,) int64, only instances of one class compete; None: all do.
        iou_thresh: an overlap strictly above it suppresses.
    """
    # One step an instance, each depending on the one before: on the host, where a step costs least.
    suppresses = (competing_overlaps(ious, classes) > iou_thresh).cpu().numpy()
    keep = torch.ones(len(suppresses), dtype=torch.bool)
    kept = keep.numpy()
    for i in range(len(suppresses)):
        if kept[i]:
            kept &= ~suppresses[i]
    return keep.to(ious.device)
