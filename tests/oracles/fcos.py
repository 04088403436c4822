"""FCOS's targets and decoding, slow and literal. For tests only."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def match(
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


def decode(
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
