"""Greedy NMS of boxes with results of fixed shape: for GPUs, which need not wait for their host, and exported files."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, library

from .boxes import pairwise_iou
from .chunks import rows_per_chunk
from .nms import greedy_box_nms

# Steps of the fixed-point iteration. Boxes of crowded images settle in about ten; a chain of boxes that each overlap
# only the next one takes a step per box.
MAX_STEPS = 32


class GreedyNMS(NamedTuple):
    """A way to compute greedy NMS in a fixed shape.

    Attributes:
        function: Returns which boxes are kept, (N, P) bool, and of which images the result is exact, (N,) bool, from
            boxes (N, P, 4), best first, and zero from the first on that is none; classes (N, P) int64, or None if all
            compete; their scores (N, P), descending, 0 for what is none; and the IoU strictly above which boxes
            suppress. What is none may be kept or not.
        max_candidates: P, at most; 3,840 is the limit of a TopK in TensorRT.
    """

    function: Callable[[Tensor, Tensor | None, Tensor, float], tuple[Tensor, Tensor]]
    max_candidates: int


def keep_by_fixpoint(
    boxes: Tensor, classes: Tensor | None, scores: Tensor, iou_thresh: float, max_steps: int = MAX_STEPS
) -> tuple[Tensor, Tensor]:
    """Return what :class:`GreedyNMS` says, from an iteration that converges to greedy NMS.

    In each step a box is kept unless a better box that was kept in the step before overlaps it. After t steps, boxes
    are settled whose chain of suppressors has fewer than t links; when a step changes nothing, all are, and exactly.

    Args:
        boxes, classes, scores, iou_thresh: As in :class:`GreedyNMS`.
        max_steps: Number of steps.
    """
    del scores
    suppressed_by = suppression_matrix(boxes.double(), classes, iou_thresh)  # as greedy_box_nms
    keep = previous = torch.ones_like(suppressed_by[:, :, 0])
    for _ in range(max_steps):
        previous = keep
        keep = ~(suppressed_by & previous[:, None, :]).any(dim=2)
    return keep, (keep == previous).all(dim=1)


def suppression_matrix(boxes: Tensor, classes: Tensor | None, iou_thresh: float) -> Tensor:
    """Return whether each box (row) overlaps each better box (column) by too much: (N, P, P) bool.

    Args:
        boxes: (N, P, 4) float x0, y0, x1, y1, best first.
        classes: (N, P) int64; only boxes of the same class compete. None: all compete.
        iou_thresh: Overlaps strictly above it suppress, compared in the type of the boxes.
    """
    count = boxes.shape[1]
    step = rows_per_chunk(8 * 5 * count)  # per pair, maybe in float64, two sides, the union, the IoU, what is selected
    parts = []
    for start in range(0, count, step):
        stop = min(start + step, count)
        # Columns from the last row on are worse than all rows.
        overlaps = pairwise_iou(boxes[:, start:stop], boxes[:, :stop]) > iou_thresh
        if classes is not None:
            overlaps &= classes[:, start:stop, None] == classes[:, None, :stop]
        parts.append(torch.nn.functional.pad(overlaps.tril(start - 1), (0, count - stop)))
    return torch.cat(parts, dim=1)


@library.custom_op("centermask_solo::nms", mutates_args=())
def nms_operator(boxes: Tensor, class_scores: Tensor, iou_thresh: float) -> Tensor:
    """Return which boxes greedy NMS keeps in each class: (N, C, P) bool. One node of an exported program.

    It is ONNX's NonMaxSuppression, of all images and classes at once, but for the form of the result.

    Args:
        boxes: (N, P, 4) float32 x0, y0, x1, y1.
        class_scores: (N, C, P) float32; boxes compete in the classes in which their score is positive.
        iou_thresh: Overlaps strictly above it suppress.
    """
    keep = torch.zeros_like(class_scores, dtype=torch.bool)
    for image, scores, kept in zip(boxes, class_scores, keep, strict=True):
        classes, rows = (scores > 0).nonzero(as_tuple=True)
        found = greedy_box_nms(image[rows], classes, scores[classes, rows], iou_thresh)
        kept[classes[found], rows[found]] = True
    return keep


@nms_operator.register_fake
def _(boxes: Tensor, class_scores: Tensor, iou_thresh: float) -> Tensor:
    del boxes, iou_thresh
    return torch.empty_like(class_scores, dtype=torch.bool)


FIXPOINT = GreedyNMS(keep_by_fixpoint, max_candidates=2048)


def greedy_nms_as_operator(num_classes: int) -> GreedyNMS:
    """Return greedy NMS as one operator, for exported programs; always exact.

    Args:
        num_classes: K.
    """

    def keep(boxes: Tensor, classes: Tensor | None, scores: Tensor, iou_thresh: float) -> tuple[Tensor, Tensor]:
        rows = torch.zeros_like(scores, dtype=torch.int64) if classes is None else classes
        columns = torch.arange(1 if classes is None else num_classes, device=boxes.device)
        class_scores = torch.where(rows[:, None] == columns[:, None], scores[:, None], 0.0)
        return nms_operator(boxes, class_scores, iou_thresh).any(dim=1), torch.ones_like(scores[:, 0], dtype=torch.bool)

    return GreedyNMS(keep, max_candidates=3840)
