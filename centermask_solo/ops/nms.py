"""Non-maximum suppression on tensors: which instances are kept, or with what scores."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import nms

from .boxes import pairwise_iou
from .chunks import rows_per_chunk
from .topk import stable_topk

MATRIX_NMS_KERNELS = ("gaussian", "linear")


def competing_overlaps(ious: Tensor, classes: Tensor | None) -> Tensor:
    """Return the overlap of each instance (column) with each better competitor (row), 0 elsewhere: (..., M, M).

    Args:
        ious: (..., M, M) float, overlaps in 0..1 of instances ranked best first.
        classes: (..., M) int64; only instances of the same class compete. None: all compete.
    """
    overlaps = ious.triu(diagonal=1)
    return overlaps if classes is None else overlaps * (classes[..., :, None] == classes[..., None, :])


def matrix_nms(
    ious: Tensor, classes: Tensor | None, scores: Tensor, kernel: str = "gaussian", sigma: float = 2.0
) -> Tensor:
    """Return the scores after Matrix NMS, (..., M) in the given order; they only decrease, and no instance is dropped.

    The score is multiplied by the smallest ``f(u) / f(o)`` over all better instances, where u is the overlap with the
    better instance, o is the largest overlap of that instance with one that is better still, and f(u) is
    exp(-sigma u²) or 1 - u. Ties are broken by order.

    Args:
        ious: (..., M, M) float, overlaps in 0..1 of instances ranked best first.
        classes: (..., M) int64; only instances of the same class compete. None: all compete.
        scores: (..., M) float, descending.
        kernel: f, "gaussian" or "linear".
        sigma: Factor in the exponent of the Gaussian.

    Raises:
        ValueError: The kernel is unknown.

    Source: SOLOv2 (arXiv 2003.10152), section 3.4 and its listing; per class and with ``sigma`` as a factor, as in the
        published code (the paper divides by 0.5).
    Differs: with the linear kernel the third of three identical masks gets 0 instead of 0 / 0; both drop it.
    """
    if kernel not in MATRIX_NMS_KERNELS:
        raise ValueError(f"the Matrix NMS kernel must be one of {', '.join(MATRIX_NMS_KERNELS)}, not {kernel!r}")
    if scores.shape[-1] == 0:
        return scores.clone()
    # u: overlap of each instance (column) with every better one (row).
    overlaps = competing_overlaps(ious, classes)
    # o: how strongly each of those better instances (row) is suppressed itself.
    of_better = overlaps.amax(dim=-2)[..., None]
    # Decay: the smallest f(u) / f(o) over all better instances, at most 1.
    if kernel == "gaussian":
        # The smallest ratio of exponentials is the exponential of the largest difference.
        decay = torch.exp(-sigma * (overlaps.square() - of_better.square()).amax(dim=-2).clamp(min=0))
    else:
        remaining, remaining_of_better = 1 - overlaps, 1 - of_better
        ratios = torch.where(remaining == 0, 0.0, remaining / remaining_of_better)
        decay = ratios.amin(dim=-2).clamp(max=1)
    return scores * decay


def greedy_nms(ious: Tensor, classes: Tensor | None, iou_thresh: float) -> Tensor:
    """Return which instances greedy NMS keeps, (M,) bool: those that overlap no better kept one by too much.

    Args:
        ious: (M, M) float, overlaps in 0..1 of instances ranked best first.
        classes: (M,) int64; only instances of the same class compete. None: all compete.
        iou_thresh: Overlaps strictly above it suppress.
    """
    # One sequential step per instance: on the host, where a step is cheapest.
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
    """Return the (box, class) pairs that Fast NMS keeps, best first: rows and classes (P,) int64, scores (P,).

    Each class ranks all boxes by its own scores and drops a box if any box ranked before it overlaps it by more than
    the threshold, whether that one is itself kept or not. A box can be kept for several classes. Equal scores are
    ordered by class, then by row.

    Args:
        boxes: (M, 4) float, finite, x0 y0 x1 y1.
        class_scores: (M, K) float, non-negative; all M boxes compete in every class, whatever their score.
        iou_thresh: Overlaps strictly above it suppress.
        topk: Number of boxes per class that compete, the best ones.
        score_thresh: Minimum score of a pair, exclusive; not negative.

    Source: YOLACT (arXiv 1904.02689), section 4; the rule and its top-k as in the published code.
    Differs: boxes without area overlap nothing; the order of equal scores is defined.
    """
    # Only higher scores suppress, so what is not above the threshold, and classes without such boxes, do not matter.
    step = _classes_per_chunk(topk, len(boxes))
    numbers = torch.cat([(x > score_thresh).sum(dim=0) for x in class_scores.split(step, dim=1)])  # in int64 inside
    used = numbers.nonzero()[:, 0]
    topk = min(topk, int(numbers.max())) if len(used) else 0
    kept = []
    for chunk in used.split(step):
        part = class_scores[:, chunk].T[None]  # copied a chunk at a time
        for start, scores, rows in _fast_nms_chunks(boxes[None], part, iou_thresh, topk, score_thresh):
            _, classes, places = (scores > 0).nonzero(as_tuple=True)
            kept.append((rows[0, classes, places], chunk[classes + start], scores[0, classes, places]))
    if not kept:
        nothing = boxes.new_zeros(0, dtype=torch.int64)
        return nothing, nothing, boxes.new_zeros(0)
    all_rows, all_classes, all_scores = (torch.cat(x) for x in zip(*kept, strict=True))
    order = all_scores.argsort(descending=True, stable=True)
    return all_rows[order], all_classes[order], all_scores[order]


def fast_nms_slots(
    boxes: Tensor, class_scores: Tensor, iou_thresh: float, topk: int, score_thresh: float, limit: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return what :func:`fast_nms` keeps of each image of a batch, in slots of a number that data does not change.

    Args:
        boxes: (N, M, 4) float, finite where the scores are not 0.
        class_scores: (N, K, M) float, non-negative; 0 for what is no candidate of a class.
        iou_thresh: As in :func:`fast_nms`.
        topk: As in :func:`fast_nms`.
        score_thresh: As in :func:`fast_nms`; not negative.
        limit: Number of slots P, at most 3,840 for TensorRT.

    Returns:
        Rows and classes (N, P) int64 and scores (N, P), best first, 0 in slots that are left; and the number of pairs
        that are kept, also of those without a slot, (N,) int64.
    """
    _, *parts = zip(*_fast_nms_chunks(boxes, class_scores, iou_thresh, topk, score_thresh), strict=True)
    scores, rows = (torch.cat(x, dim=1) for x in parts)  # (N, K, k)
    per_class = scores.shape[2]
    numbers = (scores > 0).flatten(1).sum(dim=1)
    best, places = stable_topk(scores.flatten(1), limit)
    classes = torch.div(places, per_class, rounding_mode="floor")
    found = best > 0
    kept = (torch.where(found, x, 0) for x in (rows.flatten(1).gather(1, places), classes, best))
    rows, classes, best = (F.pad(x, (0, limit - x.shape[1])) for x in kept)
    return rows, classes, best, numbers


def _classes_per_chunk(topk: int, num_boxes: int) -> int:
    k = min(topk, num_boxes)
    return rows_per_chunk(24 * max(k * k, num_boxes))  # overlaps and their areas, or keys of the ranking


def _fast_nms_chunks(
    boxes: Tensor, class_scores: Tensor, iou_thresh: float, topk: int, score_thresh: float
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield a few classes at a time: the first of them, and scores, 0 if dropped, and rows (N, classes, k) of the best.

    Arguments as in :func:`fast_nms_slots`.
    """
    k, step = min(topk, boxes.shape[1]), _classes_per_chunk(topk, boxes.shape[1])
    for i, chunk in enumerate(class_scores.split(step, dim=1)):  # slices instead would be lost by OpenVINO
        scores, rows = stable_topk(chunk.float(), k)
        ranked = boxes.gather(1, rows.flatten(1)[..., None].expand(-1, -1, 4)).unflatten(1, rows.shape[1:])
        overlaps = pairwise_iou(ranked, ranked).triu_(diagonal=1)
        keep = (scores > score_thresh) & (overlaps <= iou_thresh).all(dim=2)
        yield i * step, torch.where(keep, scores, 0.0), rows


def greedy_box_nms(boxes: Tensor, classes: Tensor | None, scores: Tensor, iou_thresh: float) -> Tensor:
    """Return the rows that greedy NMS keeps, best first, (P,) int64; ties by row.

    Args:
        boxes: (M, 4) float, x0 y0 x1 y1.
        classes: (M,) int64; only boxes of the same class compete. None: all compete.
        scores: (M,) float.
        iou_thresh: Overlaps strictly above it suppress, compared in float64.
    """
    order = scores.argsort(descending=True, stable=True)
    ranked = boxes[order].double()
    if classes is not None and len(boxes):
        ranked = ranked - ranked.min()  # non-negative, so that no class overlaps the previous one
        ranked = ranked + (classes[order] * (ranked.max() + 1))[:, None]
    kept = nms(ranked, scores[order].double(), iou_thresh).sort().values  # back to the stable order above
    return order[kept]
