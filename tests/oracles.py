"""Slow, literal versions of what the package computes fast, written from the papers; for tests only."""

from __future__ import annotations

import math
from fractions import Fraction

import torch
import torch.nn.functional as F
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


def fcos_match(
    boxes: list[list[float]],
    level_sizes: list[tuple[int, int]],
    strides: list[int],
    limits: list[float],
    radius: float | None,
) -> list[int]:
    """For each location the index of its box, -1 for none: one location and one box at a time.

    ``limits`` are the L + 1 ends of the regression ranges (FCOS, section 3.2, with center sampling).
    """
    result = []
    for level, ((height, width), stride) in enumerate(zip(level_sizes, strides, strict=True)):
        for i in range(height):
            for j in range(width):
                x, y = j * stride + stride // 2, i * stride + stride // 2
                best, best_area = -1, math.inf
                for m, (x0, y0, x1, y1) in enumerate(boxes):
                    d = (x - x0, y - y0, x1 - x, y1 - y)
                    claims = min(d) > 0 and limits[level] <= max(d) <= limits[level + 1]
                    if radius is not None:
                        reach = radius * stride
                        claims = claims and abs(x - (x0 + x1) / 2) < reach and abs(y - (y0 + y1) / 2) < reach
                    area = (x1 - x0) * (y1 - y0)
                    if claims and area < best_area:
                        best, best_area = m, area
                result.append(best)
    return result


def fcos_decode(
    class_logits: list[Tensor],
    ltrb: list[Tensor],
    centerness_logits: list[Tensor],
    strides: list[int],
    score_thresh: float,
    pre_nms_topk: int,
    thresh_with_centerness: bool = False,
) -> list[tuple[float, int, tuple[float, ...], tuple[float, float]]]:
    """The candidates of one image as (score, class, box, location), best first: one location and class at a time.

    The tensors of each level are those of the image, (K or 4 or 1, Hi, Wi).
    """
    found = []
    for logits, distances, centerness, stride in zip(class_logits, ltrb, centerness_logits, strides, strict=True):
        of_level = []
        for k, i, j in torch.cartesian_prod(*(torch.arange(s) for s in logits.shape)).tolist():
            p, q = float(logits[k, i, j].sigmoid()), float(centerness[0, i, j].sigmoid())
            if (p * q if thresh_with_centerness else p) > score_thresh:
                x, y = j * stride + stride // 2, i * stride + stride // 2
                left, top, right, bottom = (float(d) * stride for d in distances[:, i, j])
                of_level.append((math.sqrt(p * q), k, (x - left, y - top, x + right, y + bottom), (x, y)))
        found += sorted(of_level, reverse=True)[:pre_nms_topk]
    return sorted(found, reverse=True)


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


def solov2_reduced_mask(mask: Tensor) -> Tensor:
    """A mask (h, w) at a quarter of its size by OpenCV's rule for bytes, pixel by pixel in its fixed-point numbers."""

    def taps(i: int, source: int, reduced: int) -> tuple[int, int, int, int]:
        position = torch.tensor((i + 0.5) * source / reduced - 0.5, dtype=torch.float32).item()
        first = math.floor(position)
        fraction = position - first
        if first < 0:
            first, fraction = 0, 0.0
        if first >= source - 1:
            first, fraction = source - 1, 0.0
        return first, min(first + 1, source - 1), round(2048 * (1 - fraction)), round(2048 * fraction)

    (height, width), pixels = mask.shape, mask.int().tolist()
    out_h, out_w = int(height / 4 + 0.5), int(width / 4 + 0.5)
    out = torch.zeros(out_h, out_w, dtype=torch.bool)
    for i in range(out_h):
        for j in range(out_w):
            y0, y1, wy0, wy1 = taps(i, height, out_h)
            x0, x1, wx0, wx1 = taps(j, width, out_w)
            top = wx0 * pixels[y0][x0] + wx1 * pixels[y0][x1]
            bottom = wx0 * pixels[y1][x0] + wx1 * pixels[y1][x1]
            out[i, j] = (((wy0 * (top >> 4)) >> 16) + ((wy1 * (bottom >> 4)) >> 16) + 2) >> 2 > 0
    return out


def solov2_claims(
    boxes: Tensor,
    masks: Tensor,
    input_size: tuple[int, int],
    num_grids: list[int],
    scale_ranges: list[tuple[int, int]],
    sigma: float,
) -> list[tuple[int, int, int, int]]:
    """(instance, level, row, column) of every cell that an instance claims, in exact fractions (arXiv 1912.04488)."""
    claims = []
    for m, (box, mask) in enumerate(zip(boxes.tolist(), masks, strict=True)):
        pixels = mask.nonzero().tolist()
        if not pixels:
            continue
        x0, y0, x1, y1 = (Fraction(v) for v in box)
        cy, cx = (Fraction(sum(p[i] for p in pixels), len(pixels)) for i in (0, 1))
        half_h, half_w = (Fraction(str(sigma)) / 2 * side for side in (y1 - y0, x1 - x0))
        for level, (side, (low, high)) in enumerate(zip(num_grids, scale_ranges, strict=True)):
            if not low**2 <= (x1 - x0) * (y1 - y0) <= high**2:
                continue
            axes = []
            for center, half, size in ((cy, half_h, input_size[0]), (cx, half_w, input_size[1])):
                cell, first, last = (math.floor(v * side / size) for v in (center, center - half, center + half))
                axes.append(range(max(first, 0, cell - 1), min(last, side - 1, cell + 1) + 1))
            claims += [(m, level, row, column) for row in axes[0] for column in axes[1]]
    return claims


def mask_iou(masks: Tensor) -> Tensor:
    """The IoU of each two masks (M, h, w), from sets of pixels; 0 where both are empty."""
    sets = [set(map(tuple, mask.nonzero().tolist())) for mask in masks]
    rows = [[len(a & b) / len(a | b) if a | b else 0.0 for b in sets] for a in sets]
    return torch.tensor(rows, dtype=torch.float64).reshape(len(masks), len(masks))


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


def solov2_candidates(
    class_logits: list[Tensor],
    kernels: list[Tensor],
    mask_features: Tensor,
    strides: list[int],
    score_thresh: float,
    mask_thresh: float,
    limit: int,
) -> list[tuple[float, int, Tensor, Tensor]]:
    """(score, class, mask, kernel) of one image's candidates, best first: every cell and class on its own."""
    found = []
    for logits, level_kernels, stride in zip(class_logits, kernels, strides, strict=True):
        scores = logits.sigmoid().permute(1, 2, 0).tolist()
        for i, j in torch.cartesian_prod(*(torch.arange(n) for n in logits.shape[1:])).tolist():
            neighbors = [scores[y][x] for y, x in ((i - 1, j), (i, j - 1), (i - 1, j - 1)) if y >= 0 and x >= 0]
            passing = [
                k
                for k, score in enumerate(scores[i][j])
                if score > score_thresh and all(score >= n[k] for n in neighbors)
            ]
            if not passing:
                continue
            kernel = level_kernels[:, i, j]
            probabilities = torch.einsum("e,ehw->hw", kernel, mask_features).sigmoid()
            mask = probabilities > mask_thresh
            if int(mask.sum()) > stride:
                maskness = probabilities[mask].mean()
                found += [(float(maskness * scores[i][j][k]), k, mask, kernel) for k in passing]
    return sorted(found, key=lambda candidate: -candidate[0])[:limit]


def solov2_full_mask_probabilities(
    kernels: Tensor, mask_features: Tensor, stride: int, image_size: tuple[int, int], output_size: tuple[int, int]
) -> Tensor:
    """Mask probabilities (M, H, W) at the output size, by two interpolations of whole images."""
    probabilities = torch.einsum("me,ehw->mhw", kernels, mask_features).sigmoid()[None]
    enlarged = F.interpolate(probabilities, scale_factor=stride, mode="bilinear", align_corners=False)
    cropped = enlarged[..., : image_size[0], : image_size[1]]
    return F.interpolate(cropped, output_size, mode="bilinear", align_corners=False)[0]


def box_iou(a, b):
    """The IoU of two boxes, each a sequence x0 y0 x1 y1; 0 where they share nothing."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


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


def assign_one_to_one(ious):
    """The anchor of each object (a row of ``ious``): again and again the best pair of what is free; -1 for none."""
    chosen = [-1] * len(ious)
    pairs = sorted((-value, i, j) for i, row in enumerate(ious) for j, value in enumerate(row))
    for _, i, j in pairs:
        if chosen[i] < 0 and j not in chosen:
            chosen[i] = j
    return chosen


def match_anchors(anchors, boxes, classes, crowd_boxes, positive_iou, negative_iou, crowd_ioa):
    """YOLACT's labels of anchors and the object of each: class + 1, 0 for background, -1 for no part."""
    ious = [[box_iou(box, anchor) for anchor in anchors] for box in boxes]
    forced = assign_one_to_one(ious)
    labels, objects = [], []
    for j, anchor in enumerate(anchors):
        best = max(range(len(boxes)), key=lambda i: (ious[i][j], -i), default=0)
        iou = ious[best][j] if boxes else 0.0
        if j in forced:
            best, iou = forced.index(j), 2.0
        label = 0
        if iou >= positive_iou:
            label = classes[best] + 1
        elif iou >= negative_iou:
            label = -1
        else:
            area = (anchor[2] - anchor[0]) * (anchor[3] - anchor[1])
            for crowd in crowd_boxes:
                width = min(anchor[2], crowd[2]) - max(anchor[0], crowd[0])
                height = min(anchor[3], crowd[3]) - max(anchor[1], crowd[1])
                if width > 0 and height > 0 and width * height / area > crowd_ioa:
                    label = -1
        labels.append(label)
        objects.append(best)
    return labels, objects


def mine_negatives(logits, labels, ratio):
    """The hardest background rows of one image, (R,) of bool: ``logits`` (R, K + 1) of float64, background first."""
    num_negatives = min(ratio * sum(x > 0 for x in labels), len(labels) - 1)
    background = [i for i, label in enumerate(labels) if label == 0]
    ranked = sorted(background, key=lambda i: math.log(sum(math.exp(x) for x in logits[i])) - logits[i][0])
    chosen = ranked[len(ranked) - min(num_negatives, len(ranked)) :]
    return [i in chosen for i in range(len(labels))]


def box_mask_loss(coefficients, prototypes, boxes, truths):
    """YOLACT's mask loss of each row, pixel by pixel: prototypes (E, h, w), boxes in fractions, truths (M, h, w)."""
    _, height, width = prototypes.shape
    losses = []
    for k, box, truth in zip(coefficients, boxes, truths, strict=True):
        total = 0.0
        for y in range(height):
            for x in range(width):
                in_columns = box[0] * width - 1 <= x < box[2] * width + 1
                if in_columns and box[1] * height - 1 <= y < box[3] * height + 1:
                    logit = sum(a * b for a, b in zip(k.tolist(), prototypes[:, y, x].tolist(), strict=True))
                    p = 1 / (1 + math.exp(-logit))
                    total -= math.log(p if truth[y, x] else 1 - p)
        losses.append(total / ((box[2] - box[0]) * width * (box[3] - box[1]) * height))
    return losses
