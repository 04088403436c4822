"""Outlines of the generated shapes as signed distances, which give exact masks and smooth edges alike.

An outline is a function of coordinates in the shape's own frame, where the shape fits into the circle of radius
``REACH`` around the origin. It returns the distance to the shape's edge, negative inside. Pixels depend only on
operations whose results NumPy guarantees on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[np.float64]
Outline = Callable[[Array, Array], Array]
REACH = 1.05
Points = Sequence[tuple[float, float]]

# Straight strokes of letters in a box from (0, 0), top left, to (1, 1), bottom right
_LETTERS: dict[str, Sequence[Points]] = {
    "A": [[(0, 1), (0.5, 0), (1, 1)], [(0.2, 0.65), (0.8, 0.65)]],
    "E": [[(1, 0), (0, 0), (0, 1), (1, 1)], [(0, 0.5), (0.8, 0.5)]],
    "F": [[(1, 0), (0, 0), (0, 1)], [(0, 0.5), (0.8, 0.5)]],
    "H": [[(0, 0), (0, 1)], [(1, 0), (1, 1)], [(0, 0.5), (1, 0.5)]],
    "K": [[(0, 0), (0, 1)], [(1, 0), (0, 0.55), (1, 1)]],
    "L": [[(0, 0), (0, 1), (1, 1)]],
    "M": [[(0, 1), (0, 0), (0.5, 0.6), (1, 0), (1, 1)]],
    "N": [[(0, 1), (0, 0), (1, 1), (1, 0)]],
    "T": [[(0, 0), (1, 0)], [(0.5, 0), (0.5, 1)]],
    "U": [[(0, 0), (0, 0.75), (0.3, 1), (0.7, 1), (1, 0.75), (1, 0)]],
    "V": [[(0, 0), (0.5, 1), (1, 0)]],
    "Y": [[(0, 0), (0.5, 0.5), (1, 0)], [(0.5, 0.5), (0.5, 1)]],
    "Z": [[(0, 0), (1, 0), (0, 1), (1, 1)]],
}


def disc(rng: Generator) -> Outline:
    """Return a filled circle or mild ellipse."""
    return _ellipse(rng.uniform(0.75, 1.0))


def ring(rng: Generator) -> Outline:
    """Return a circle or mild ellipse with a hole in the middle."""
    half_width = rng.uniform(0.15, 0.24)
    edge = _ellipse(rng.uniform(0.8, 1.0))
    return lambda x, y: np.abs(edge(x, y) + half_width) - half_width


def star(rng: Generator) -> Outline:
    """Return a star of four to seven points."""
    rays = int(rng.integers(4, 8))
    radii, angles = np.ones(2 * rays), np.linspace(0.0, 2 * np.pi, 2 * rays, endpoint=False)
    radii[1::2] = rng.uniform(0.38, 0.5)
    return _polygon(_around(radii, angles))


def polygon(rng: Generator) -> Outline:
    """Return a filled, slightly irregular polygon of three to six corners."""
    return _polygon(_corners(rng))


def frame(rng: Generator) -> Outline:
    """Return the border of a polygon of three to six corners, with a hole in the middle."""
    half_width = rng.uniform(0.14, 0.19)
    edge = _polygon(_corners(rng))
    return lambda x, y: np.abs(edge(x, y) + half_width) - half_width


def blob(rng: Generator) -> Outline:
    """Return a soft blob: a few discs around the middle that blend into each other."""
    count = int(rng.integers(3, 6))
    turns = (np.arange(count) + rng.uniform(-0.25, 0.25, count)) * (2 * np.pi / count)
    centers = _around(rng.uniform(0.38, 0.56, count), turns)
    radii = rng.uniform(0.25, 0.38, count)

    def distance(x: Array, y: Array) -> Array:
        merged = np.hypot(x, y) - 0.3
        for (cx, cy), radius in zip(centers, radii, strict=True):
            other = np.hypot(x - cx, y - cy) - radius
            overlap = np.maximum(0.3 - np.abs(merged - other), 0.0)
            merged = np.minimum(merged, other) - overlap * overlap / 1.2  # quadratic smooth minimum
        return merged

    return distance


def cross(rng: Generator) -> Outline:
    """Return two bars of equal length that cross in their middles."""
    arm = rng.uniform(0.2, 0.32)
    reach = 0.95

    def distance(x: Array, y: Array) -> Array:
        long, short = np.maximum(np.abs(x), np.abs(y)), np.minimum(np.abs(x), np.abs(y))
        return np.maximum(long - reach, short - arm)

    return distance


def crescent(rng: Generator) -> Outline:
    """Return a crescent: a circle minus another that covers one side of it."""
    shift, bite = rng.uniform(0.45, 0.65), rng.uniform(0.72, 0.85)
    return lambda x, y: np.maximum(np.hypot(x, y) - 1.0, bite - np.hypot(x - shift, y))


def word(rng: Generator) -> Outline:
    """Return two or three letters in a row, one object of several parts."""
    count = int(rng.integers(2, 4))
    names = sorted(_LETTERS)
    advance = 1.62 / (count + 0.3 * (count - 1))  # letters with gaps of 0.3 of their width between them
    height = min(1.5 * advance, 0.85)
    lines: list[Points] = []
    for i in range(count):
        left = -0.81 + i * 1.3 * advance
        for line in _LETTERS[names[rng.integers(len(names))]]:
            lines.append([(left + px * advance, (py - 0.5) * height) for px, py in line])
    return _strokes(lines, 0.36 / (count + 1))


def squiggle(rng: Generator) -> Outline:
    """Return a thick zigzag line of three to five segments."""
    legs = int(rng.integers(3, 6))
    height = rng.uniform(0.32, 0.46)
    xs = np.linspace(-0.76, 0.76, legs + 1)
    points = [(float(px), height if i % 2 else -height) for i, px in enumerate(xs)]
    return _strokes([points], rng.uniform(0.13, 0.16))


# In the order of the category ids, which start at 1
OUTLINES: dict[str, Callable[[Generator], Outline]] = {
    "disc": disc,
    "ring": ring,
    "star": star,
    "polygon": polygon,
    "frame": frame,
    "blob": blob,
    "cross": cross,
    "crescent": crescent,
    "word": word,
    "squiggle": squiggle,
}


def _around(radii: Array, angles: Array) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in zip(radii * np.cos(angles), radii * np.sin(angles), strict=True)]


def _corners(rng: Generator) -> list[tuple[float, float]]:
    count = int(rng.integers(3, 7))
    angles = (np.arange(count) + rng.uniform(-0.12, 0.12, count)) * (2 * np.pi / count)
    return _around(rng.uniform(0.85, 1.0, count), angles)


def _ellipse(ratio: float) -> Outline:
    return lambda x, y: (np.hypot(x, y / ratio) - 1.0) * ratio


def _segment(x: Array, y: Array, start: tuple[float, float], end: tuple[float, float]) -> Array:
    """Return the distance to a line segment."""
    ex, ey = end[0] - start[0], end[1] - start[1]
    px, py = x - start[0], y - start[1]
    along = np.clip((px * ex + py * ey) / (ex * ex + ey * ey), 0.0, 1.0)
    return np.hypot(px - along * ex, py - along * ey)


def _polygon(points: Points) -> Outline:
    """Return a closed polygon, filled by the even-odd rule."""

    def distance(x: Array, y: Array) -> Array:
        nearest = np.full(x.shape, np.inf)
        inside = np.zeros(x.shape, dtype=bool)
        for start, end in zip(points, [*points[1:], points[0]], strict=True):
            np.minimum(nearest, _segment(x, y, start, end), out=nearest)
            crosses = (start[1] > y) != (end[1] > y)
            if start[1] != end[1]:
                inside ^= crosses & (x < start[0] + (y - start[1]) * ((end[0] - start[0]) / (end[1] - start[1])))
        return np.where(inside, -nearest, nearest)

    return distance


def _strokes(lines: Sequence[Points], half_width: float) -> Outline:
    """Return lines of a given thickness with round ends."""

    def distance(x: Array, y: Array) -> Array:
        nearest = np.full(x.shape, np.inf)
        for line in lines:
            for start, end in pairwise(line):
                np.minimum(nearest, _segment(x, y, start, end), out=nearest)
        return nearest - half_width

    return distance
