"""COCO's names for the sizes of objects."""

from __future__ import annotations

import math

SIZES = (("small", 0.0, 32.0**2), ("medium", 32.0**2, 96.0**2), ("large", 96.0**2, math.inf))  # areas in pixels


def size_name(area: float) -> str:
    """Return "small", "medium" or "large" for an area in pixels."""
    return next(name for name, low, high in SIZES if low <= area < high)
