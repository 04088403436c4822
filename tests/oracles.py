"""Slow, literal versions of what the package computes fast, written from the papers; for tests only."""

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
