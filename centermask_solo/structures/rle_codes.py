"""Run-length codes of masks, as in COCO's results; needs neither PyTorch nor Detectron2."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

Code = dict[str, Any]  # "size", [H, W], and "counts", str


class Window(NamedTuple):
    """The part of a mask that has all of its pixels.

    Attributes:
        left: First column.
        top: First row.
        pixels: (h, w) bool; (0, 0) of an empty mask.
    """

    left: int
    top: int
    pixels: NDArray[np.bool_]


EMPTY = Window(0, 0, np.zeros((0, 0), np.bool_))


def encode_window(window: Window, size: tuple[int, int]) -> Code:
    """Return the code of a mask of ``size``."""
    (height, width), (h, w) = size, window.pixels.shape
    # Column by column, as codes are, each with a row of background below, so that every run ends in its column.
    pixels = np.zeros(1 + w * (h + 1), np.uint8)
    if w:
        pixels[1:].reshape(w, h + 1)[:, :h] = cv2.transpose(window.pixels.view(np.uint8))
    column, row = np.divmod(np.flatnonzero(pixels[1:] != pixels[:-1]), h + 1)
    changes = (window.left + column) * height + window.top + row
    if h == height:  # a run at the bottom of the image goes on at the top of the next column
        joined = np.flatnonzero(changes[1:] == changes[:-1])
        changes = np.delete(changes, np.concatenate([joined, joined + 1]))
    counts = np.diff(changes, prepend=0, append=height * width)
    if len(changes) and changes[-1] == height * width:
        counts = counts[:-1]
    code: Code = rle.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return {"size": [height, width], "counts": code["counts"].decode("ascii")}
