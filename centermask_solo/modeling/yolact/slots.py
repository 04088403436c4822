"""YOLACT's decoding at fixed shape, for GPUs and exported files: no size depends on data, no result is awaited."""

from __future__ import annotations

import torch
from detectron2.modeling.box_regression import Box2BoxTransform
from torch import Tensor

from ...ops.nms import fast_nms_slots
from ..detections import Detections
from ..instance_nms import NMSOptions
from .decode import best_probabilities, is_valid, mask_probabilities
from .heads import YOLACTPredictions


def detect_slots(
    predictions: YOLACTPredictions,
    frames: Tensor,
    box_transform: Box2BoxTransform,
    *,
    score_thresh: float,
    nms: NMSOptions,
    max_candidates: int,
    max_detections: int,
    limit: int,
) -> Detections:
    """Return the detections of a batch after Fast NMS, with ``mask_coefficients`` (N, K, E) float32.

    All anchors take part: those below the threshold, and those that are not finite, with scores of 0, for which there
    is room after all others. Only the number of slots can therefore change the result.

    Args:
        predictions: Predictions of the batch.
        frames: (N, 1, 4) float32, by which boxes in fractions of the input are multiplied.
        box_transform: Conversion of deltas to boxes.
        score_thresh: Minimum probability of an anchor's best class, exclusive.
        nms: Options of FastNMS.
        max_candidates: Maximum number of candidates of an image if all classes compete.
        max_detections: Number of slots K.
        limit: Maximum number of detections of an image; negative for no limit.
    """
    probabilities, boxes = dense_candidates(predictions, box_transform, score_thresh)
    boxes = boxes * frames
    class_scores, topk = probabilities.transpose(1, 2), nms.topk  # (N, K, R)
    if nms.class_agnostic:
        best, best_classes = class_scores.max(dim=1)
        class_scores, topk = best[:, None], min(topk, max_candidates)
    rows, classes, scores, numbers = fast_nms_slots(
        boxes, class_scores, nms.iou_thresh, topk, nms.class_score_thresh, max_detections
    )
    if nms.class_agnostic:
        classes = best_classes.gather(1, rows)
    most = max_detections if limit < 0 else min(limit, max_detections)
    used = torch.arange(max_detections, device=rows.device) < numbers[:, None].clamp(max=most)

    def take(values: Tensor) -> Tensor:
        """Return the rows of (N, R, C) that are kept, (N, K, C), 0 in free slots."""
        kept = values.gather(1, rows[..., None].expand(-1, -1, values.shape[2]))
        return torch.where(used[..., None], kept, 0)

    return Detections(
        boxes=take(boxes),
        scores=torch.where(used, scores, 0),
        classes=torch.where(used, classes, 0),
        num_detections=numbers.clamp(max=most),
        exact=torch.ones_like(numbers, dtype=torch.bool) if most == limit else numbers <= max_detections,
        fields={"mask_coefficients": take(predictions.mask_coefficients).float()},
    )


def dense_candidates(
    predictions: YOLACTPredictions, box_transform: Box2BoxTransform, score_thresh: float
) -> tuple[Tensor, Tensor]:
    """Return the class probabilities (N, R, K) float32 and boxes (N, R, 4) of all anchors; 0 for no candidates.

    Arguments as in :func:`detect_slots`, boxes in fractions of the input. What is a candidate, and its values, are
    those of :func:`~.decode.decode_batch`.
    """
    logits, normalizers, best = best_probabilities(predictions.class_logits)
    scores = (logits[:, :, 1:] - normalizers[:, :, None]).exp()
    deltas = predictions.box_deltas
    anchors = predictions.anchors.expand(deltas.shape[0], -1, -1)
    boxes = box_transform.apply_deltas(deltas.float().flatten(0, 1), anchors.flatten(0, 1)).view_as(deltas)
    candidates = ((best > score_thresh) & is_valid(boxes))[..., None]
    return torch.where(candidates, scores, 0.0), torch.where(candidates, boxes, 0.0)


def mask_slots(detections: Detections, prototypes: Tensor, boxes: Tensor) -> Tensor:
    """Return the masks of all slots at the size of the prototypes, (N, K, h, w) float32 probabilities, 0 in free slots.

    Args:
        detections: Detections of the batch, with ``mask_coefficients``.
        prototypes: (N, E, h, w).
        boxes: (N, K, 4) float32, those of ``detections`` in fractions of the input.
    """
    masks = mask_probabilities(detections.fields["mask_coefficients"], prototypes, boxes)
    return torch.where(detections.filled()[:, :, None, None], masks, 0.0)


def frames_of(sizes: Tensor) -> Tensor:
    """Return what boxes in fractions are multiplied by, (N, 1, 4) float32, from heights and widths (N, 2)."""
    return sizes.flip(1).repeat(1, 2)[:, None].float()
