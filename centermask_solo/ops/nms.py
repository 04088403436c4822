"""Suppression rules on a matrix of overlaps: which of the ranked instances stay, or with what scores. No policy."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import nms

from .boxes import pairwise_iou
from .topk import stable_topk

FAST_NMS_CHUNK_FLOATS = 2**22  # overlaps, or ranks, that exist at once: 16 MB and 32 MB
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


def fast_nms(
    boxes: Tensor, class_scores: Tensor, iou_thresh: float, topk: int, score_thresh: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """The (box, class) pairs that Fast NMS keeps, best first: rows (P,), classes (P,), both int64, and scores (P,).

    Each class ranks all boxes by its own scores. A box is dropped where one that is ranked before it overlaps it by
    more than the threshold, whether that one is itself kept or not. One box can be kept for several classes. Of equal
    scores the lower class comes first, then the lower row.

    Args:
        boxes: (M, 4) float, finite, x0 y0 x1 y1.
        class_scores: (M, K) float, not negative; all M boxes take part in every class, whatever their score.
        iou_thresh: an overlap strictly above it suppresses.
        topk: boxes of a class that are compared, and kept at most.
        score_thresh: a pair's score must be strictly above.

    Source: YOLACT (arXiv 1904.02689), section 4; the rule and its top-k as in the published code.
    Differs: boxes without area overlap nothing; equal scores have an order.
    """
    num_boxes, num_classes = class_scores.shape
    k = min(topk, num_boxes)
    chunk = max(FAST_NMS_CHUNK_FLOATS // max(k * k, num_boxes, 1), 1)
    kept = []
    for start in range(0, num_classes, chunk):
        scores, rows = stable_topk(class_scores[:, start : start + chunk].T.float(), k)  # (classes, k)
        candidates = boxes[rows]
        overlaps = pairwise_iou(candidates, candidates).triu_(diagonal=1)
        keep = (scores > score_thresh) & (overlaps <= iou_thresh).all(dim=1)
        classes, places = keep.nonzero(as_tuple=True)
        kept.append((rows[classes, places], classes + start, scores[classes, places]))
    if not kept:
        nothing = boxes.new_zeros(0, dtype=torch.int64)
        return nothing, nothing, boxes.new_zeros(0)
    all_rows, all_classes, all_scores = (torch.cat(x) for x in zip(*kept, strict=True))
    order = all_scores.argsort(descending=True, stable=True)
    return all_rows[order], all_classes[order], all_scores[order]


def greedy_box_nms(boxes: Tensor, classes: Tensor | None, scores: Tensor, iou_thresh: float) -> Tensor:
    """The rows that greedy NMS keeps, best first, (P,) int64; of equal scores the lower row comes first.

    Args:
        boxes: (M, 4) float, x0 y0 x1 y1.
        classes: (M,) int64, only boxes of one class compete; None: all do.
        scores: (M,) float.
        iou_thresh: an overlap strictly above it suppresses, in float64.
    """
    order = scores.argsort(descending=True, stable=True)
    ranked = boxes[order].double()
    if classes is not None and len(boxes):
        ranked = ranked - ranked.min()  # non-negative first, so that no class reaches into the one before
        ranked = ranked + (classes[order] * (ranked.max() + 1))[:, None]
    kept = nms(ranked, scores[order].double(), iou_thresh).sort().values  # the order above is the stable one
    return order[kept]
