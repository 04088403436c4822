"""The NMS rules of the package; importing this module registers them."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchvision.ops import box_iou

from ..ops import nms
from ..ops.boxes import pairwise_iou
from ..ops.masks import batch_mask_iou, mask_iou
from ..ops.topk import stable_topk
from .instance_nms import Kept, NMSCandidates, NMSOptions, register_instance_nms


@register_instance_nms("BatchedNMS", inputs=("pred_boxes",))
def batched_nms(candidates: NMSCandidates, options: NMSOptions) -> Kept:
    """Greedy NMS of boxes: drop what a better kept box overlaps by an IoU above ``iou_thresh``.

    Differs: Detectron2's ``batched_nms`` separates classes by offsets in float32 for few boxes and by a loop for many,
        and lets boxes with negative coordinates reach into the previous class. Here boxes are first shifted to be
        non-negative and offsets are added in float64, so that the result depends neither on their number nor on the
        device.
    """
    rows = nms.greedy_box_nms(candidates.shapes, candidates.classes, candidates.scores, options.iou_thresh)
    return Kept(rows, candidates.scores[rows])


@register_instance_nms("MaskNMS", inputs=("pred_masks",))
def mask_nms(candidates: NMSCandidates, options: NMSOptions) -> Kept:
    """Greedy NMS of masks: drop what a better kept mask overlaps by an IoU above ``iou_thresh``, or if both are empty.

    Source: SOLO's published code, ``NMS_TYPE "mask"``.
    """
    order = _best_first(candidates.scores)
    ious = mask_iou(candidates.shapes, candidates.classes)
    empty = ious.diagonal() == 0
    ious = torch.where(empty[:, None] & empty, 1.0, ious)
    rows = order[nms.greedy_nms(ious[order][:, order], _take(candidates.classes, order), options.iou_thresh)]
    return Kept(rows, candidates.scores[rows])


def fixed_matrix_nms(candidates: NMSCandidates, options: NMSOptions, max_kept: int) -> Kept:
    """Matrix NMS of a batch in fixed shapes: what :func:`matrix_nms` keeps, but for scores that decay to 0."""
    shapes = candidates.shapes
    scores, order = stable_topk(candidates.scores, candidates.scores.shape[1])
    ious = batch_mask_iou(shapes) if shapes.ndim == 4 else pairwise_iou(shapes, shapes)
    ious = ious.gather(1, order[:, :, None].expand_as(ious)).gather(2, order[:, None, :].expand_as(ious))
    classes = None if candidates.classes is None else candidates.classes.gather(1, order)
    decayed = nms.matrix_nms(ious, classes, scores, options.kernel, options.sigma)
    decayed = torch.where(decayed >= options.score_thresh, decayed, 0.0)
    kept_scores, best = stable_topk(decayed, max_kept)
    return Kept(order.gather(1, best), kept_scores)


@register_instance_nms("MatrixNMS", inputs=("pred_masks", "pred_boxes"), fixed=fixed_matrix_nms, decays=True)
def matrix_nms(candidates: NMSCandidates, options: NMSOptions) -> Kept:
    """Matrix NMS on masks or else on boxes: decay scores by overlap, keep those of at least ``score_thresh``.

    Source: SOLOv2 (arXiv 2003.10152), section 3.4; see :func:`centermask_solo.ops.nms.matrix_nms`.
    """
    order, shapes = _best_first(candidates.scores), candidates.shapes
    ious = mask_iou(shapes, candidates.classes) if shapes.ndim == 3 else box_iou(shapes, shapes).nan_to_num(0.0)
    ious, classes = ious[order][:, order], _take(candidates.classes, order)
    decayed = nms.matrix_nms(ious, classes, candidates.scores[order], options.kernel, options.sigma)
    best = _best_first(decayed)
    best = best[decayed[best] >= options.score_thresh]
    return Kept(order[best], decayed[best])


@register_instance_nms("FastNMS", inputs=("pred_boxes",), per_class=True)
def fast_nms(candidates: NMSCandidates, options: NMSOptions) -> Kept:
    """Fast NMS: drop what any better box overlaps by an IoU above ``iou_thresh``, even one that is dropped itself.

    With ``class_agnostic`` this is YOLACT's cross-class form.

    Source: YOLACT (arXiv 1904.02689), section 4; see :func:`centermask_solo.ops.nms.fast_nms`.
    """
    rows, classes, scores = nms.fast_nms(
        candidates.shapes, _class_scores(candidates), options.iou_thresh, options.topk, options.class_score_thresh
    )
    return Kept(rows, scores, None if candidates.class_scores is None else classes)


@register_instance_nms("TraditionalNMS", inputs=("pred_boxes",), per_class=True)
def traditional_nms(candidates: NMSCandidates, options: NMSOptions) -> Kept:
    """Greedy NMS of boxes as in YOLACT: among scores above ``score_thresh``, drop overlaps of ``iou_thresh`` or more.

    Widths and heights are increased by 1.

    Source: YOLACT's published code, ``fast_nms=false``.
    """
    class_scores = _class_scores(candidates)
    classes, rows = (class_scores > options.score_thresh).T.nonzero(as_tuple=True)  # ties are ordered by class
    scores = class_scores[rows, classes]
    extended = candidates.shapes[rows] + candidates.shapes.new_tensor([0.0, 0.0, 1.0, 1.0])
    # At the threshold or above is strictly above the next smaller number.
    kept = nms.greedy_box_nms(extended, classes, scores, math.nextafter(options.iou_thresh, -math.inf))
    return Kept(rows[kept], scores[kept], None if candidates.class_scores is None else classes[kept])


def _class_scores(candidates: NMSCandidates) -> Tensor:
    """Return the scores (M, columns) by which per-class rules rank, one column per class, or one if all compete."""
    if candidates.class_scores is not None:
        return candidates.class_scores
    scores, classes = candidates.scores, candidates.classes
    if classes is None:
        return scores[:, None]
    return scores.new_zeros(len(scores), int(classes.max()) + 1).scatter_(1, classes[:, None], scores[:, None])


def _best_first(scores: Tensor) -> Tensor:
    """Return the order of descending scores; ties keep theirs."""
    return scores.argsort(descending=True, stable=True)


def _take(classes: Tensor | None, order: Tensor) -> Tensor | None:
    """Return ``classes`` in another order; None stays None."""
    return None if classes is None else classes[order]
