"""Outlines of masks along the edges of their pixels, and one polygon in place of several; needs no PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Polygon = list[float]  # x1, y1, x2, y2, ... in pixels, as in COCO's format


class Outlines(NamedTuple):
    """The outlines of a mask.

    Attributes:
        parts: Outer outlines, one for each part of pixels that are joined by their sides.
        holes: Outlines of the holes in these parts.
    """

    parts: list[Polygon]
    holes: list[Polygon]


def trace_outlines(pixels: NDArray[Any], left: int = 0, top: int = 0) -> Outlines:
    """Return the outlines of a mask, whose corners are corners of pixels.

    COCO's rules turn each of them into exactly the pixels that it encloses: a mask is the sum of its parts minus its
    holes.

    Args:
        pixels: (H, W) bool, or integers that are 0 outside.
        left: Column of the first pixel in the image, which is added to x.
        top: Row of the first pixel in the image, which is added to y.
    """
    padded = np.pad(np.asarray(pixels, dtype=bool), 1)
    a, b, c, d = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]  # the pixels around a corner
    touching = (a == d) & (b == c) & (a != b)
    y, x = np.nonzero(a ^ b ^ c ^ d | touching)
    repeats = np.where(touching[y, x], 2, 1)  # where two pixels touch by a corner only, two outlines pass it
    y, x, double = np.repeat(y, repeats), np.repeat(x, repeats), np.repeat(repeats == 2, repeats)
    first = np.zeros(len(x), dtype=bool)
    first[np.flatnonzero(double)[::2]] = True
    # Corners follow each other in pairs along rows and along columns. At a double corner, the outline that comes from
    # the left turns up if the pixel up there is inside, and down otherwise, so that parts are separate.
    along_rows = _partners(np.lexsort((~first, x, y)))
    up_first = first ^ (double & ~a[y, x])
    along_columns = _partners(np.lexsort((~up_first, y, x)))
    found = Outlines([], [])
    for loop in _loops(along_rows, along_columns):
        start = loop[np.lexsort((x[loop], y[loop]))[0]]
        is_part = padded[y[start] + 1, x[start] + 1]  # the pixel on the right and below is inside of the outline
        points = np.stack([x[loop] + left, y[loop] + top], axis=1)
        (found.parts if is_part else found.holes).append(points.ravel().astype(float).tolist())
    return found


def _partners(order: NDArray[np.int64]) -> list[int]:
    """Return the other corner of each one's edge, where corners in this order are the ends of edges in turn."""
    partners = np.empty_like(order)
    partners[order[0::2]], partners[order[1::2]] = order[1::2], order[0::2]
    return partners.tolist()


def _loops(along_rows: list[int], along_columns: list[int]) -> list[NDArray[np.int64]]:
    """Return the corners of each outline, in order."""
    loops, seen = [], [False] * len(along_rows)
    for start in range(len(along_rows)):
        loop, corner = [], start
        while not seen[corner]:
            other = along_rows[corner]
            seen[corner] = seen[other] = True
            loop += [corner, other]
            corner = along_columns[other]
        if loop:
            loops.append(np.array(loop))
    return loops


def join_polygons(polygons: Sequence[Sequence[float]]) -> Polygon:
    """Return one polygon that encloses what an odd number of the given ones encloses.

    Each is joined with the next by a bridge without width, there and back, between close corners. That keeps the areas
    of parts that are apart, and of holes, where polygons are filled by the even-odd rule.

    Args:
        polygons: At least one; parts, and holes.
    """
    ring = np.reshape(np.asarray(polygons[0], dtype=float), (-1, 2))
    there, back = [], []
    for polygon in polygons[1:]:
        ring = np.concatenate([ring, ring[:1]])
        points = np.reshape(np.asarray(polygon, dtype=float), (-1, 2))
        out = _closest(ring, points[0])
        there.append(ring[: out + 1])
        back.append(ring[out:])
        ring = np.roll(points, -_closest(points, ring[out]), axis=0)
    ends = [np.concatenate([ring, ring[:1]]), *reversed(back)] if back else [ring]
    joined = np.concatenate([*there, *ends])
    return [float(x) for x in (joined[:-1] if back else joined).ravel()]


def _closest(points: NDArray[Any], to: NDArray[Any]) -> int:
    """Return the index of the closest of points, (N, 2), to one, (2,)."""
    return int(np.square(points - to).sum(axis=1).argmin())
