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
