"""SOLOv2's targets and decoding, slow and literal. For tests only."""

from __future__ import annotations

import math
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor


def reduced_mask(mask: Tensor) -> Tensor:
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


def claims(
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


def candidates(
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


def full_mask_probabilities(
    kernels: Tensor, mask_features: Tensor, stride: int, image_size: tuple[int, int], output_size: tuple[int, int]
) -> Tensor:
    """Mask probabilities (M, H, W) at the output size, by two interpolations of whole images."""
    probabilities = torch.einsum("me,ehw->mhw", kernels, mask_features).sigmoid()[None]
    enlarged = F.interpolate(probabilities, scale_factor=stride, mode="bilinear", align_corners=False)
    cropped = enlarged[..., : image_size[0], : image_size[1]]
    return F.interpolate(cropped, output_size, mode="bilinear", align_corners=False)[0]
