"""Shapes cut off at the border of their image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MIN_AREA = 1e-3  # of a polygon, in pixels; with less, checks of datasets say that it has none

OUTSIDE = "objects outside of the image (left out)"


def clip_polygon(polygon: Sequence[float], width: int, height: int) -> list[float]:
    """Return the part of a polygon that is in its image; [] if none is, and the same corners if all of it is.

    If that leaves several parts, bridges without width along the border join them into one polygon.

    Args:
        polygon: x1, y1, x2, y2, ... in pixels, of any shape.
        width: Width of the image in pixels.
        height: Height of the image in pixels.

    Source:
        Sutherland and Hodgman, Reentrant polygon clipping, 1974.
    """
    points = np.reshape(np.asarray(polygon, dtype=float), (-1, 2))
    if (points >= 0).all() and (points <= [width, height]).all():
        return list(polygon)
    for axis, side in enumerate((width, height)):
        points = _cut(points, points[:, axis] >= 0, axis, 0)
        points = _cut(points, points[:, axis] <= side, axis, side)
    points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
    x, y = points.T
    area = abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
    return [float(v) for v in points.ravel()] if area >= MIN_AREA else []


def _cut(points: NDArray[Any], inside: NDArray[np.bool_], axis: int, limit: int) -> NDArray[Any]:
    """Return the corners, (N, 2), on one side of a line, and those where edges cross it, in their order."""
    crosses = inside != np.roll(inside, -1)
    steps = (np.roll(points, -1, axis=0) - points)[crosses]
    shares = (limit - points[crosses, axis]) / steps[:, axis]
    cuts = points[crosses] + shares[:, None] * steps
    cuts[:, axis] = limit
    places = np.concatenate([np.flatnonzero(inside), np.flatnonzero(crosses) + 0.5])
    return np.concatenate([points[inside], cuts])[np.argsort(places)]


def clip_box(box: Sequence[float], width: int, height: int) -> list[float]:
    """Return the part of a box, x, y, width and height in pixels, that is in its image; [] if it is beside it."""
    x, y, w, h = box
    if x >= 0 and y >= 0 and x + w <= width and y + h <= height:
        return list(box)
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
    return [left, top, right - left, bottom - top] if right > left and bottom > top else []
