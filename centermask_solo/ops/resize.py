"""Bilinear resizing in arithmetic that every runtime has."""

from __future__ import annotations

import torch
from torch import Tensor

# Steps per unit of the first part of a scale that is at least 0, 0.25 and 1: for up to 1,024 positions in 32 to 4,096
# pixels, products with both parts are exact, so that a sum is rounded once, whether or not it is added in one step.
COARSE = (32768.0, 8192.0, 2048.0)


def resize_bilinear(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Return images at another size, (N, C, *size): bilinear interpolation without antialiasing; can be exported.

    The result is that of ``F.interpolate`` with ``align_corners=False``, up to the rounding of the last bits. Exported
    programs need it because runtimes compute the positions of ``F.interpolate`` in another order of operations:
    at 550 pixels they are 1e-5 pixels off, which an image of sharp edges turns into ten times the error of all of a
    network's float32.

    Args:
        pixels: (N, C, H, W) float32.
        size: Height and width of the result.
    """
    for axis, count in zip((2, 3), size, strict=True):
        low, high, share = _sources(pixels.shape[axis], count, pixels.device)
        shape = (-1, 1) if axis == 2 else (-1,)
        share = share.reshape(shape)
        pixels = pixels.index_select(axis, low) * (1 - share) + pixels.index_select(axis, high) * share
    return pixels


def _sources(size: int, output_size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two source pixels of each output pixel, (n_out,) int64, and the share of the second one, float32."""
    given = torch.tensor([size], dtype=torch.float32, device=device)  # a tensor, as the size may be unknown
    centers = torch.arange(output_size, dtype=torch.float32, device=device) + 0.5
    # PyTorch rounds the scale and the positions to float32, but nothing between: processors multiply and add at once.
    # Where that or float64 is missing, the exact products with two parts of the scale come to the same.
    quotient = given / output_size
    steps = torch.where(quotient < 0.25, COARSE[0], torch.where(quotient < 1, COARSE[1], COARSE[2]))
    coarse = (quotient * steps).floor() / steps
    # OpenVINO multiplies by a reciprocal instead of dividing, and is off by a last bit: what is left over corrects it.
    rest = (given - coarse * output_size) - (quotient - coarse) * output_size
    scale = quotient + rest / output_size
    positions = ((coarse * centers - 0.5) + (scale - coarse) * centers).clamp(min=0)
    low = positions.floor()
    last = given.long() - 1
    return low.long(), torch.minimum(low.long() + 1, last), positions - low
