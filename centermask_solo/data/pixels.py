"""Pixels of any type and orientation as the 8-bit pictures that models are trained on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
STRIP_PIXELS = 2**20  # of an image that are converted at a time

_WHITES = (255, 1023, 4095, 16383, 65535)  # largest values of 8, 10, 12, 14 and 16 bits


def to_8_bits(pixels: NDArray[Any]) -> Pixels:
    """Return numbers of any type as uint8; those that are uint8 are not changed.

    False and True become 0 and 255. Other types are scaled linearly, from 0 as black to white as 255. White is the
    largest value of 8, 10, 12, 14 or 16 bits, the smallest of these that no pixel exceeds, so that 12-bit data in a
    16-bit type uses the whole range; for floats also 1. Where a pixel exceeds 16 bits, the brightest is white; where
    one is negative, the darkest is black and the brightest white. NaN and -infinity are black, infinity is white.
    """
    if pixels.dtype == np.uint8:
        return pixels
    return np.rint(scale_to_255(pixels)).astype(np.uint8)


def scale_to_255(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """Return numbers of any type as :func:`to_8_bits` does, but as float32 and not rounded."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.float32)
    if pixels.dtype == np.bool_:
        return pixels * np.float32(255)
    is_float = np.issubdtype(pixels.dtype, np.floating)
    values = pixels.astype(np.float32)
    finite = values[np.isfinite(values)] if is_float else values
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    black, white = min(low, 0.0), high
    if low >= 0:
        white = next((float(x) for x in ((1, *_WHITES) if is_float else _WHITES) if high <= x), high)
    values -= black
    values *= 255 / (white - black) if white > black else 0.0
    return np.clip(np.nan_to_num(values, nan=0.0, posinf=255.0, neginf=0.0), 0, 255)


def orient(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return pixels (H, W, ...) turned and mirrored as an orientation of EXIF data, 1 to 8, asks for."""
    if orientation in (3, 7):
        pixels = pixels[::-1, ::-1]
    if orientation in (2, 4):
        pixels = pixels[:, ::-1] if orientation == 2 else pixels[::-1]
    if orientation in (5, 7):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (6, 8):
        pixels = np.rot90(pixels, 1 if orientation == 8 else -1)
    return pixels


def strips(height: int, width: int) -> Iterator[tuple[int, int]]:
    """Yield the first row and the one after the last of parts of an image that are converted at a time."""
    step = max(STRIP_PIXELS // max(width, 1), 1)
    return ((top, min(top + step, height)) for top in range(0, height, step))


def swapped(pixels: Pixels) -> Pixels:
    """Return pixels (H, W, 3) in RGB order in BGR order, in place where that is possible."""
    found = pixels if pixels.flags.writeable else np.empty_like(pixels)
    for top, bottom in strips(*pixels.shape[:2]):
        cv2.cvtColor(pixels[top:bottom], cv2.COLOR_RGB2BGR, dst=found[top:bottom])
    return found
