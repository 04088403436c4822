"""From YOLACT's outputs to candidates, and from kept coefficients to masks of the output size.

Everything is computed in float32. Memory is bounded: masks are resized only around their objects, straight into
booleans.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from detectron2.modeling.box_regression import Box2BoxTransform
from torch import Tensor

from ...ops.boxes import inside_boxes
from ...ops.chunks import rows_per_chunk
from ...ops.masks import axis_resize, resize_and_threshold_
from ...ops.precision import in_float32

MAX_COORDINATE = 1e6  # of a box, fractions of the input; beyond, its size in pixels or its area can overflow
MASK_PADDING = 1.0  # border of a box that still belongs to its mask, prototype pixels
MASK_THRESH = 0.5  # minimum probability of a mask's pixels, exclusive


class Candidates(NamedTuple):
    """What enters NMS for one image: the anchors above the score threshold, in their order.

    Attributes:
        scores: (M,) float32, the highest class probability.
        pred_classes: (M,) int64, its class.
        class_scores: (M, K) float32, probabilities of all classes.
        boxes: (M, 4) float32, fractions of the input, finite, not clipped.
        anchors: (M,) int64.
    """

    scores: Tensor
    pred_classes: Tensor
    class_scores: Tensor
    boxes: Tensor
    anchors: Tensor


@torch.no_grad()
def decode_batch(
    class_logits: Tensor,
    box_deltas: Tensor,
    anchors: Tensor,
    box_transform: Box2BoxTransform,
    score_thresh: float,
    min_class_score: float = 0.0,
) -> list[Candidates]:
    """Return the candidates of each image of a batch.

    Probabilities are only computed for anchors whose best class passes. Anchors with non-finite logits or with boxes
    beyond ``MAX_COORDINATE`` are dropped.

    Args:
        class_logits: (N, R, K + 1), background first.
        box_deltas: (N, R, 4).
        anchors: (R, 4) float32, fractions of the input.
        box_transform: Conversion of deltas to boxes.
        score_thresh: Minimum probability of an anchor's best class, exclusive.
        min_class_score: Probabilities of classes that are lower become 0.

    Source: YOLACT's published code: softmax over classes and background.
    """
    logits, normalizers, best = best_probabilities(class_logits)
    images, rows = (best > score_thresh).nonzero(as_tuple=True)
    boxes = box_transform.apply_deltas(box_deltas[images, rows].float(), anchors[rows])
    valid = is_valid(boxes)
    images, rows, boxes = images[valid], rows[valid], boxes[valid]
    class_scores = (logits[images, rows, 1:] - normalizers[images, rows, None]).exp()
    class_scores = torch.threshold_(class_scores, min_class_score, 0.0)
    scores, classes = class_scores.max(dim=1)
    numbers = images.bincount(minlength=logits.shape[0]).tolist()
    parts = (x.split(numbers) for x in (scores, classes, class_scores, boxes, rows))
    return [Candidates(*x) for x in zip(*parts, strict=True)]


def best_probabilities(class_logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits in float32, their log-sum-exp and the highest probability of a class, (N, R) float32 each.

    That of an anchor whose logits are not finite is NaN or 0, which exceeds no threshold.

    Args:
        class_logits: (N, R, K + 1), background first.
    """
    logits = class_logits.float()
    normalizers = logits.logsumexp(dim=2)
    return logits, normalizers, (logits[:, :, 1:].amax(dim=2) - normalizers).exp()


def is_valid(boxes: Tensor) -> Tensor:
    """Return which boxes (..., 4), in fractions of the input, are finite and not beyond ``MAX_COORDINATE``."""
    return (boxes.abs() < MAX_COORDINATE).all(dim=-1)


def mask_probabilities(coefficients: Tensor, prototypes: Tensor, boxes: Tensor) -> Tensor:
    """Return the masks of boxes at the size of the prototypes: (..., M, h, w) float32 probabilities.

    They are 0 outside of the box and a border around it.

    Args:
        coefficients: (..., M, E); leading dimensions are batch dimensions.
        prototypes: (..., E, h, w).
        boxes: (..., M, 4) float32, fractions of the input, not clipped.

    Source: YOLACT (arXiv 1904.02689), equation 1; the border of one pixel as in the published code.
    """
    size = (prototypes.shape[-2], prototypes.shape[-1])
    with in_float32(prototypes):
        logits = coefficients.float() @ prototypes.float().flatten(-2)
    inside = inside_boxes(boxes, size, MASK_PADDING)
    return torch.where(inside, logits.sigmoid().unflatten(-1, size), 0.0)


@torch.no_grad()
def decode_full_masks(
    coefficients: Tensor,
    prototypes: Tensor,
    boxes: Tensor,
    output_size: tuple[int, int],
) -> Tensor:
    """Return the masks of boxes at ``output_size``, (M, H, W) bool: probabilities are cropped, resized, thresholded.

    Args:
        coefficients: (M, E).
        prototypes: (E, h, w), spanning the whole input.
        boxes: (M, 4) float32, fractions of the input, not clipped.
        output_size: H and W.

    Source: the published code, which resizes directly from the size of the prototypes.
    """
    size, device = prototypes.shape[1:], prototypes.device
    rows, columns = (axis_resize(n, out, device) for n, out in zip(size, output_size, strict=True))
    masks = torch.zeros(len(coefficients), *output_size, dtype=torch.bool, device=device)
    step = rows_per_chunk(4 * size.numel())
    for chunk, chunk_boxes, out in zip(coefficients.split(step), boxes.split(step), masks.split(step), strict=True):
        probabilities = mask_probabilities(chunk, prototypes, chunk_boxes)
        with in_float32(prototypes):
            resize_and_threshold_(out, probabilities, rows, columns, MASK_THRESH)
    return masks


def frame_of(size: tuple[int, int], boxes: Tensor) -> Tensor:
    """Return width, height, width, height of ``size`` (height, width), by which boxes in fractions are multiplied."""
    height, width = (boxes.new_full((1,), side) for side in size)  # filled there: a copy would wait for the device
    return torch.cat((width, height, width, height))
