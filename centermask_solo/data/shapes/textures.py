"""Colors and textures of the objects and backgrounds of generated images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[np.float64]
Color = NDArray[np.float64]  # (3,), RGB, 0..255
Pattern = Callable[[Generator, Array, Array], Array]  # pixel columns and rows -> share of the second color, 0..1


def random_color(rng: Generator) -> Color:
    """Return a color of any hue, from pale to saturated and from dark to bright: (3,) RGB in 0..255."""
    hue, saturation, value = rng.uniform(0.0, 6.0), rng.uniform(0.1, 1.0), rng.uniform(0.25, 1.0)
    wheel = np.clip(np.abs((hue + np.array([0.0, 4.0, 2.0])) % 6.0 - 3.0) - 1.0, 0.0, 1.0)
    return 255.0 * value * (1.0 - saturation * (1.0 - wheel))


def contrasting_color(rng: Generator, other: Color, least: float, most: float = 765.0) -> Color:
    """Return a color whose L1 distance from ``other`` lies in [``least``, ``most``] if possible."""
    color = random_color(rng)
    for _ in range(30):
        if least <= np.abs(color - other).sum() <= most:
            break
        color = random_color(rng)
    return color


def fill(rng: Generator, columns: Array, rows: Array, color: Color, variation: float) -> Array:
    """Return a textured surface, (h, w, 3) in 0..255.

    Args:
        rng: Source of all randomness.
        columns, rows: Coordinates of the pixels, (h, w).
        color: Main color.
        variation: Bound of the second color's difference from it, per channel.
    """
    shift = rng.uniform(0.3, 1.0) * variation
    second = color + np.where(color.mean() > 127.5, -shift, shift) * rng.uniform(0.6, 1.4, 3)
    pattern = PATTERNS[rng.integers(len(PATTERNS))]
    share = pattern(rng, columns, rows)[..., None]
    return np.clip(color * (1.0 - share) + second * share, 0.0, 255.0)


def _plain(rng: Generator, columns: Array, rows: Array) -> Array:
    return np.zeros(columns.shape)


def _gradient(rng: Generator, columns: Array, rows: Array) -> Array:
    angle = rng.uniform(0.0, 2 * np.pi)
    along = np.cos(angle) * columns + np.sin(angle) * rows
    low, high = along.min(), along.max()
    return (along - low) / max(high - low, 1.0)


def _stripes(rng: Generator, columns: Array, rows: Array) -> Array:
    angle, period = rng.uniform(0.0, np.pi), rng.uniform(5.0, 14.0)
    phase = (np.cos(angle) * columns + np.sin(angle) * rows) / period
    return np.clip(3.0 * np.abs(2.0 * (phase - np.floor(phase)) - 1.0) - 1.0, 0.0, 1.0)


def _checks(rng: Generator, columns: Array, rows: Array) -> Array:
    period = rng.uniform(4.0, 10.0)
    return (np.floor(columns / period) + np.floor(rows / period)) % 2.0


def _speckles(rng: Generator, columns: Array, rows: Array) -> Array:
    return rng.random(columns.shape)


def _clouds(rng: Generator, columns: Array, rows: Array) -> Array:
    """Return smooth noise: a coarse grid of random numbers, interpolated."""
    period = rng.uniform(12.0, 40.0)
    x, y = (columns - columns.min()) / period, (rows - rows.min()) / period
    left, top = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
    knots = rng.random((top.max(initial=0) + 2, left.max(initial=0) + 2))
    dx, dy = x - left, y - top
    upper = knots[top, left] * (1.0 - dx) + knots[top, left + 1] * dx
    lower = knots[top + 1, left] * (1.0 - dx) + knots[top + 1, left + 1] * dx
    return upper * (1.0 - dy) + lower * dy


PATTERNS: tuple[Pattern, ...] = (_plain, _gradient, _stripes, _checks, _speckles, _clouds)
