"""Run-length codes of masks, as in COCO's results; needs neither PyTorch nor Detectron2."""

from __future__ import annotations

from collections.abc import Sequence
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


def tight(window: Window) -> Window:
    """Return a mask without the rows and columns around its pixels."""
    rows, columns = (np.flatnonzero(window.pixels.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return EMPTY
    y, x = int(rows[0]), int(columns[0])
    return Window(window.left + x, window.top + y, window.pixels[y : rows[-1] + 1, x : columns[-1] + 1])


def paste(picture: NDArray[Any], window: Window, value: Any) -> None:
    """Set the pixels (H, W) that are in a mask to a value."""
    height, width = window.pixels.shape
    picture[window.top : window.top + height, window.left : window.left + width][window.pixels] = value


def shared_pixels(a: Window, b: Window) -> int:
    """Return the number of pixels that two masks share."""
    left, top = max(a.left, b.left), max(a.top, b.top)
    right = min(a.left + a.pixels.shape[1], b.left + b.pixels.shape[1])
    bottom = min(a.top + a.pixels.shape[0], b.top + b.pixels.shape[0])
    if right <= left or bottom <= top:
        return 0
    parts = (x.pixels[top - x.top : bottom - x.top, left - x.left : right - x.left] for x in (a, b))
    return int(np.count_nonzero(np.logical_and(*parts)))


def window_iou(a: Window, b: Window, crowd: bool = False) -> float:
    """Return the IoU of two masks of the same image; the share of ``a`` in ``b`` if that is a crowd."""
    shared = shared_pixels(a, b)
    sizes = [int(np.count_nonzero(x.pixels)) for x in (a, b)]
    union = sizes[0] if crowd else sum(sizes) - shared
    return shared / max(union, 1)


def code_of(segmentation: Any, height: int, width: int) -> Code:
    """Return the code of a mask (H, W) in any form that COCO's format has.

    Args:
        segmentation: Polygons, at least one, or run lengths, as a list or as a compressed str or bytes.
        height: H.
        width: W.
    """
    code = segmentation
    if not isinstance(code, dict):
        code = rle.merge(rle.frPyObjects([list(x) for x in segmentation], height, width))
    elif isinstance(code["counts"], list):
        code = rle.frPyObjects(code, height, width)
    counts = code["counts"]
    return {"size": [height, width], "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}


def merge_codes(codes: Sequence[Code]) -> Code:
    """Return the code of all pixels of several masks of one size, none of which is decoded."""
    return codes[0] if len(codes) == 1 else code_of(rle.merge(list(codes)), *codes[0]["size"])


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
    return code_of({"size": [height, width], "counts": counts.tolist()}, height, width)


def decode_window(code: Code) -> Window:
    """Return the mask of a code, in memory for its box only.

    Args:
        code: Of a mask, its "counts" str or bytes.
    """
    left, top, width, height = (int(n) for n in rle.toBbox(code))
    if not width:
        return EMPTY
    ends = np.cumsum(_counts(code["counts"]))
    starts, ends = ends[0:-1:2], ends[1::2]  # of the runs inside of the mask
    starts, ends = starts[starts < ends], ends[starts < ends]
    # Runs that go on in the next column are those of boxes as high as the image, in which nothing lies between.
    (first_column, first_row), (last_column, last_row) = (np.divmod(x, code["size"][0]) for x in (starts, ends - 1))
    changes = np.zeros(width * height + 1, np.int8)
    changes[(first_column - left) * height + first_row - top] += 1
    np.subtract.at(changes, (last_column - left) * height + last_row - top + 1, 1)
    pixels = np.cumsum(changes[:-1], dtype=np.int8).reshape(width, height)
    return Window(left, top, np.ascontiguousarray(pixels.T).view(np.bool_))


def _counts(text: str | bytes) -> NDArray[np.int64]:
    """Return the lengths of a code's runs, which COCO writes as differences from the last but one, 5 bits a letter."""
    letters = np.frombuffer(text.encode() if isinstance(text, str) else text, np.uint8).astype(np.int64) - 48
    is_last = (letters & 0x20) == 0
    number = np.cumsum(is_last) - is_last  # which one a letter belongs to
    begins = np.flatnonzero(np.concatenate([[True], is_last[:-1]]))
    place = np.arange(len(letters)) - begins[number]
    values = np.zeros(len(begins), np.int64)
    np.add.at(values, number, (letters & 0x1F) << (5 * place))
    ends = np.flatnonzero(is_last)
    values -= np.where(letters[ends] & 0x10, np.int64(1) << (5 * (place[ends] + 1)), 0)
    values[1::2], values[2::2] = np.cumsum(values[1::2]), np.cumsum(values[2::2])
    return values
