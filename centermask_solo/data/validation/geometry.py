"""Bounds and areas of many polygons and RLEs at once, without handing any of them to native code unchecked."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..formats.packing import pack

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_MAX_NUMBER = 2**53  # integers above it are not exact, and beyond any image
_MAX_RUN = 2**32
_MAX_CHARACTERS = 7  # of one number of a compressed RLE


class Polygons(NamedTuple):
    """Properties of P polygons."""

    numbers: Bools  # (P,) whether all values are numbers; the rest is undefined for the others
    finite: Bools  # (P,)
    bounds: Floats  # (P, 4) x0 y0 x1 y1
    areas: Floats  # (P,)


class Runs(NamedTuple):
    """Properties of R RLEs."""

    decodable: Bools  # (R,) whether the counts are non-negative integers; the rest is undefined for the others
    totals: Ints  # (R,) sum of the counts
    bounds: Floats  # (R, 4) x0 y0 x1 y1 of the object's pixels, zeros if it has none
    areas: Ints  # (R,) pixels of the object


def is_number(value: Any) -> bool:
    """Return whether a value is a number, possibly NaN or infinite, and not a Boolean."""
    return isinstance(value, float) or (type(value) is int and abs(value) <= _MAX_NUMBER)


def measure_polygons(polygons: Sequence[Sequence[Any]]) -> Polygons:
    """Return the properties of polygons, each flat, of an even number, at least 2, of coordinates."""
    packed = [p if type(p) is array else pack(p) for p in polygons]
    numbers = np.fromiter((type(p) is array for p in packed), dtype=np.bool_, count=len(packed))
    if not polygons:
        return Polygons(numbers, numbers, np.zeros((0, 4)), np.zeros(0))
    nothing = array("d", [0.0, 0.0])
    arrays = [p if type(p) is array else nothing for p in packed]
    values = np.frombuffer(b"".join(arrays))
    sizes = np.fromiter(map(len, arrays), dtype=np.int64, count=len(arrays))
    points = sizes // 2
    starts = np.cumsum(points) - points
    x, y = values[0::2], values[1::2]
    # The next point of each point of a closed polygon
    following = np.arange(1, len(x) + 1)
    following[starts + points - 1] = starts
    with np.errstate(invalid="ignore", over="ignore"):
        areas = abs(np.add.reduceat(x * y[following] - x[following] * y, starts)) / 2
    finite = np.logical_and.reduceat(np.isfinite(x) & np.isfinite(y), starts)
    lowest, highest = (np.stack([f.reduceat(x, starts), f.reduceat(y, starts)], 1) for f in (np.minimum, np.maximum))
    return Polygons(numbers, finite, np.concatenate([lowest, highest], axis=1), areas)


def measure_runs(counts: Sequence[Any], heights: Sequence[int]) -> Runs:
    """Return the properties of RLEs in column order.

    Args:
        counts: Run lengths of background and object in turn, lists of integers or strings as pycocotools compresses
            them; anything else is not decodable.
        heights: Heights of their images, positive.
    """
    rows: list[NDArray[Any]] = [np.zeros(1, dtype=np.int64)] * len(counts)
    decodable = np.zeros(len(counts), dtype=np.bool_)
    for i, numbers in _decompress({i: x for i, x in enumerate(counts) if isinstance(x, str)}).items():
        rows[i], decodable[i] = numbers, True
    for i, x in enumerate(counts):
        if isinstance(x, list) and x:
            with suppress(TypeError, OverflowError):
                rows[i], decodable[i] = np.frombuffer(array("q", x), dtype=np.int64), True
    if not len(counts):
        return Runs(decodable, np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0, np.int64))
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    first = np.cumsum(lengths) - lengths
    runs = np.concatenate(rows).astype(np.int64)
    decodable &= np.logical_and.reduceat((runs >= 0) & (runs < _MAX_RUN), first)
    runs = np.clip(runs, 0, _MAX_RUN)
    totals = np.add.reduceat(runs, first)
    row = np.repeat(np.arange(len(rows)), lengths)
    starts = np.cumsum(runs) - runs
    starts -= starts[first][row]
    # The object's runs are the odd ones
    is_object = ((np.arange(len(runs)) - first[row]) % 2 == 1) & (runs > 0)
    row, starts, runs = row[is_object], starts[is_object], runs[is_object]
    areas = np.bincount(row, weights=runs, minlength=len(rows)).astype(np.int64)
    return Runs(decodable, totals, _bounds(row, starts, starts + runs, np.asarray(heights)[row], len(rows)), areas)


def _bounds(row: Ints, starts: Ints, ends: Ints, height: Ints, num_rows: int) -> Floats:
    """Return (num_rows, 4) bounds of pixels starts to ends, numbered in column order, per row; ``row`` is sorted."""
    bounds = np.zeros((num_rows, 4))
    if not len(row):
        return bounds
    left, right = starts // height, (ends - 1) // height
    one_column = left == right
    top = np.where(one_column, starts % height, 0)
    bottom = np.where(one_column, (ends - 1) % height + 1, height)
    present, first = np.unique(row, return_index=True)
    bounds[present, 0] = np.minimum.reduceat(left, first)
    bounds[present, 1] = np.minimum.reduceat(top, first)
    bounds[present, 2] = np.maximum.reduceat(right + 1, first)
    bounds[present, 3] = np.maximum.reduceat(bottom, first)
    return bounds


def _decompress(strings: dict[int, str]) -> dict[int, Ints]:
    """Return the counts of compressed RLEs, without those that are malformed.

    Each character holds 5 bits of a number, the lowest first, above a code of 48; the bit above them says that more
    follow, and the highest bit of the last character is the sign. From the fourth count on, the number is the
    difference to the count before last.
    """
    strings = {i: x for i, x in strings.items() if x and x.isascii()}
    if not strings:
        return {}
    codes = np.frombuffer("".join(strings.values()).encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    sizes = np.fromiter(map(len, strings.values()), dtype=np.int64, count=len(strings))
    last = np.cumsum(sizes) - 1
    good = np.logical_and.reduceat((codes >= 0) & (codes < 64), last - sizes + 1) & (codes[last] & 32 == 0)
    if not good.all():
        return _decompress({i: x for (i, x), keep in zip(strings.items(), good, strict=True) if keep})
    # Characters to numbers
    ends = np.flatnonzero(codes & 32 == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    characters = ends - starts + 1
    shift = np.minimum(np.arange(len(codes)) - np.repeat(starts, characters), _MAX_CHARACTERS)
    numbers = np.add.reduceat((codes & 31) << (5 * shift), starts)
    numbers -= np.where(codes[ends] & 16, np.int64(1) << (5 * np.minimum(characters, _MAX_CHARACTERS)), 0)
    # Differences to counts
    per_string = np.diff(np.searchsorted(ends, last, side="right"), prepend=0)
    owner = np.repeat(np.arange(len(strings)), per_string)
    position = np.arange(len(numbers)) - (np.cumsum(per_string) - per_string)[owner]
    for chain_start in (1, 2):
        index = np.flatnonzero((position >= chain_start) & (position % 2 == chain_start % 2))
        if len(index):
            sums = np.cumsum(numbers[index])
            begins = np.flatnonzero(position[index] == chain_start)
            before = sums[begins] - numbers[index][begins]
            numbers[index] = sums - np.repeat(before, np.diff([*begins, len(index)]))
    too_long = np.zeros(len(strings), dtype=np.bool_)
    too_long[owner[characters > _MAX_CHARACTERS]] = True
    parts = np.split(numbers, np.cumsum(per_string)[:-1])
    return {i: part for i, part, bad in zip(strings, parts, too_long, strict=True) if not bad}


def box_iou(a: Floats, b: Floats) -> Floats:
    """Return the IoU of boxes of positive area, both (M, 4) x0 y0 x1 y1, pair by pair."""
    overlap = np.clip(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0, math.inf).prod(axis=1)
    return overlap / ((a[:, 2:] - a[:, :2]).prod(axis=1) + (b[:, 2:] - b[:, :2]).prod(axis=1) - overlap)
