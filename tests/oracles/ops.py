"""Deformable convolution, losses, overlaps and NMS, slow and literal. For tests only."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def deform_conv2d(
    x: Tensor, offsets: Tensor, masks: Tensor, weight: Tensor, *, stride: int, padding: int, dilation: int, groups: int
) -> Tensor:
    """Deformable convolution, one output value and one tap at a time (arXiv 1811.11168, equation 1).

    ``offsets`` is (N, G, kk, 2, Ho, Wo) with (y, x) pairs, ``masks`` (N, G, kk, Ho, Wo); G groups of input channels.
    """
    num_images, channels, height, width = x.shape
    channels_out, channels_per_group, kernel, _ = weight.shape
    deform_groups, (out_h, out_w) = offsets.shape[1], offsets.shape[-2:]

    def sample(image: Tensor, y: float, x_: float) -> float:
        total, y0, x0 = 0.0, math.floor(y), math.floor(x_)
        for yy in (y0, y0 + 1):
            for xx in (x0, x0 + 1):
                if 0 <= yy < height and 0 <= xx < width:  # zero outside of the image
                    total += float(image[yy, xx]) * (1 - abs(y - yy)) * (1 - abs(x_ - xx))
        return total

    out = torch.zeros(num_images, channels_out, out_h, out_w, dtype=torch.float64)
    for n, o, i, j in torch.cartesian_prod(*(torch.arange(s) for s in out.shape)).tolist():
        for c in range(channels_per_group):
            c_in = o // (channels_out // groups) * channels_per_group + c
            g = c_in // (channels // deform_groups)
            for tap in range(kernel * kernel):
                dy, dx = offsets[n, g, tap, :, i, j].tolist()
                y = i * stride - padding + tap // kernel * dilation + dy
                x_ = j * stride - padding + tap % kernel * dilation + dx
                value = sample(x[n, c_in], y, x_) * float(masks[n, g, tap, i, j])
                out[n, o, i, j] += float(weight[o, c, tap // kernel, tap % kernel]) * value
    return out


def focal_loss_sum(logits: Tensor, classes: Tensor, alpha: float, gamma: float) -> float:
    """Sigmoid focal loss, one entry at a time (arXiv 1708.02002, equation 5); class K is background."""
    total = 0.0
    for row, true_class in zip(logits.tolist(), classes.tolist(), strict=True):
        for k, logit in enumerate(row):
            p = 1 / (1 + math.exp(-logit))
            p_t, alpha_t = (p, alpha) if k == true_class else (1 - p, 1 - alpha)
            total += -alpha_t * (1 - p_t) ** gamma * math.log(p_t)
    return total


def dice_loss(scores: Tensor, mask: Tensor) -> Tensor:
    """One mask's dice loss (arXiv 1912.04488, equation 4), with 0.001 added to both squared sums."""
    mask = mask.to(scores.dtype)
    overlap = (scores * mask).sum()
    return 1 - 2 * overlap / ((scores * scores).sum() + 0.001 + (mask * mask).sum() + 0.001)


def mask_iou(masks: Tensor) -> Tensor:
    """The IoU of each two masks (M, h, w), from sets of pixels; 0 where both are empty."""
    sets = [set(map(tuple, mask.nonzero().tolist())) for mask in masks]
    rows = [[len(a & b) / len(a | b) if a | b else 0.0 for b in sets] for a in sets]
    return torch.tensor(rows, dtype=torch.float64).reshape(len(masks), len(masks))


def box_iou(a, b):
    """The IoU of two boxes, each a sequence x0 y0 x1 y1; 0 where they share nothing."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def matrix_nms(ious: Tensor, classes: list[int], scores: list[float], kernel: str, sigma: float) -> list[float]:
    """Matrix NMS (arXiv 2003.10152, section 3.4) of ranked instances, one pair at a time."""

    def u(i: int, j: int) -> float:
        return float(ious[i, j]) if classes[i] == classes[j] else 0.0

    def f(overlap: float) -> float:
        return math.exp(-sigma * overlap**2) if kernel == "gaussian" else 1 - overlap

    decayed = []
    for j, score in enumerate(scores):
        factor = 1.0
        for i in range(j):
            of_better = max((u(k, i) for k in range(i)), default=0.0)
            if f(u(i, j)) == 0:
                factor = 0.0
            elif f(of_better) > 0:
                factor = min(factor, f(u(i, j)) / f(of_better))
        decayed.append(score * factor)
    return decayed


def greedy_nms(ious: Tensor, classes: list[int], thresh: float) -> list[int]:
    """The rows of ranked instances that greedy NMS keeps."""
    kept: list[int] = []
    for j in range(len(classes)):
        if not any(classes[i] == classes[j] and float(ious[i, j]) > thresh for i in kept):
            kept.append(j)
    return kept


def fast_nms(boxes, class_scores, iou_thresh, topk, score_thresh):
    """YOLACT's Fast NMS, class by class and pair by pair: (score, class, row) of what stays, best first."""
    kept = []
    for k in range(len(class_scores[0]) if class_scores else 0):
        ranked = sorted(range(len(boxes)), key=lambda i: (-class_scores[i][k], i))[:topk]
        for place, i in enumerate(ranked):
            overlaps = [box_iou(boxes[i], boxes[j]) for j in ranked[:place]]
            if class_scores[i][k] > score_thresh and max(overlaps, default=0) <= iou_thresh:
                kept.append((class_scores[i][k], k, i))
    return sorted(kept, key=lambda x: -x[0])
