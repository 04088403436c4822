"""From the masks of an exported model to masks of the size of an image, one object at a time."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .metadata import Masks

Floats = NDArray[np.float32]
TILE = 256  # output rows and columns that are interpolated together: few source pixels, so a cheap matrix product


class Axis(NamedTuple):
    """Resizing along one axis.

    Attributes:
        weights: (n_out, n_in) float32; each output pixel is the mean of source pixels with these weights.
        first: (n_out,), first source pixel that each output pixel reads, ascending.
        stop: (n_out,), one past the last one, ascending.
    """

    weights: Floats
    first: NDArray[np.intp]
    stop: NDArray[np.intp]


def interpolation(size: int, output_size: int) -> Floats:
    """Return bilinear interpolation without antialiasing along one axis as a matrix, (output_size, size).

    The numbers are those of PyTorch with ``align_corners=False``.
    """
    scale = np.float32(size) / np.float32(output_size)
    positions = (np.arange(output_size, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    positions = np.clip(positions, 0, size - 1)
    low = positions.astype(np.intp)
    share = positions - low
    rows = np.arange(output_size)
    weights = np.zeros((output_size, size), np.float32)
    weights[rows, low] = 1 - share
    weights[rows, np.minimum(low + 1, size - 1)] += share
    return weights


def input_axis(size: int, output_size: int, stride: int, used: int) -> Axis:
    """Return the resizing of masks that span the network's input.

    Args:
        size: Pixels of the mask.
        output_size: Pixels of the image.
        stride: Input pixels per mask pixel, by which masks are enlarged first; 0 if they span the whole input.
        used: Pixels of the input that the image takes, without padding.
    """
    if not stride:
        return _axis(interpolation(size, output_size))
    weights = interpolation(size, stride * size)[:used]
    return _axis(weights if used == output_size else interpolation(used, output_size) @ weights)


def _axis(weights: Floats) -> Axis:
    read = weights != 0
    return Axis(weights, read.argmax(axis=1), weights.shape[1] - read[:, ::-1].argmax(axis=1))


def paste_from_input(probabilities: Floats, rows: Axis, columns: Axis, threshold: float) -> NDArray[np.bool_]:
    """Return the pixels whose resized probability exceeds ``threshold``, (H, W) bool.

    A resized pixel is a mean of its source pixels, so nothing is computed where none of them exceeds it.

    Args:
        probabilities: (h, w).
        rows: Resizing from h to H.
        columns: Resizing from w to W.
        threshold: Compared strictly.
    """
    mask = np.zeros((len(rows.weights), len(columns.weights)), bool)
    above = probabilities > threshold
    y = _reached_by(rows, np.asarray(above.any(axis=1)))
    x = _reached_by(columns, np.asarray(above.any(axis=0)))
    for left in range(*x, TILE):
        right = min(left + TILE, x[1])
        read = slice(columns.first[left], columns.stop[right - 1])
        wide = probabilities[:, read] @ columns.weights[left:right, read].T
        for top in range(*y, TILE):
            bottom = min(top + TILE, y[1])
            read = slice(rows.first[top], rows.stop[bottom - 1])
            mask[top:bottom, left:right] = rows.weights[top:bottom, read] @ wide[read] > threshold
    return mask


def _reached_by(axis: Axis, present: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the range of output pixels, end exclusive, that read any source pixel that is ``present``."""
    where = np.flatnonzero(present)
    if not len(where):
        return 0, 0
    start = int(np.searchsorted(axis.stop, where[0], side="right"))
    return start, max(start, int(np.searchsorted(axis.first, where[-1], side="right")))


def paste_from_box(
    probabilities: Floats, box: NDArray[np.float32], size: tuple[int, int], threshold: float
) -> NDArray[np.bool_]:
    """Return the pixels whose interpolated probability reaches ``threshold``, (H, W) bool; none outside of the box.

    Args:
        probabilities: (h, w), spanning the box.
        box: x0, y0, x1, y1 in pixels of the result; it may lie outside of it in part.
        size: H and W.
        threshold: Minimum probability, inclusive, as in Detectron2.
    """
    mask = np.zeros(size, bool)
    x0, y0, x1, y1 = box.astype(np.float64)
    if not (x1 > x0 and y1 > y0):
        return mask
    rows, y = _box_axis(y0, y1, probabilities.shape[0], size[0])
    columns, x = _box_axis(x0, x1, probabilities.shape[1], size[1])
    mask[y, x] = rows @ probabilities @ columns.T >= threshold
    return mask


def _box_axis(first: float, last: float, size: int, output_size: int) -> tuple[Floats, slice]:
    """Return the resizing of a box's mask along one axis, (pixels, size), and the pixels that it reaches."""
    start = min(max(0, int(np.floor(first)) - 1), output_size)
    stop = max(start, min(output_size, int(np.ceil(last)) + 1))
    positions = (np.arange(start, stop) + 0.5 - first) / (last - first) * size - 0.5
    weights = np.maximum(0, 1 - np.abs(positions[:, None] - np.arange(size)))  # 0 outside of the mask
    return weights.astype(np.float32), slice(start, stop)


def mask_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Return x0, y0, x1, y1 around the pixels of a mask, right and bottom exclusive; 0 if it has none."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


class Paster:
    """Pastes the masks of one image."""

    def __init__(
        self, kind: Masks, mask_size: tuple[int, int], image_size: tuple[int, int], output_size: tuple[int, int]
    ) -> None:
        """
        Args:
            kind: What the masks mean.
            mask_size: Their height and width.
            image_size: Height and width of the image in the network's input.
            output_size: Height and width of the result.
        """
        self._kind, self._size = kind, output_size
        if kind.frame == "input":
            axes = zip(mask_size, output_size, image_size, strict=True)
            self._rows, self._columns = (input_axis(n, out, kind.stride, used) for n, out, used in axes)

    def __call__(self, probabilities: Floats, box: Any) -> NDArray[np.bool_]:
        """Return a mask of the output size from its probabilities and its box in pixels of the output."""
        if self._kind.frame == "input":
            return paste_from_input(probabilities, self._rows, self._columns, self._kind.threshold)
        return paste_from_box(probabilities, box, self._size, self._kind.threshold)
