"""The connected parts of masks, and their outlines as COCO's polygons; needs no PyTorch."""

from __future__ import annotations

import cv2
import numpy as np

from .outlines import Polygon, join_polygons, trace_outlines
from .rle_codes import Window


def components(window: Window) -> list[Window]:
    """Return the parts of a mask whose pixels are joined by their sides, each in its tight window, by size."""
    if not window.pixels.size:
        return []
    count, labels, stats, _ = cv2.connectedComponentsWithStats(window.pixels.view(np.uint8), connectivity=4)
    order = sorted(range(1, count), key=lambda i: -stats[i, cv2.CC_STAT_AREA])
    parts = []
    for i in order:
        x, y, w, h = (int(n) for n in stats[i, :4])
        parts.append(Window(window.left + x, window.top + y, labels[y : y + h, x : x + w] == i))
    return parts


def polygons(window: Window) -> list[Polygon]:
    """Return a polygon for each connected part of a mask, x1, y1, x2, y2, ... in pixels of the image.

    They enclose exactly its pixels by COCO's rules: holes, which COCO's format does not know, are joined to the outline
    by bridges without width.
    """
    found = []
    for part in components(window):
        outlines = trace_outlines(part.pixels, part.left, part.top)
        found.append(join_polygons([*outlines.parts, *outlines.holes]))
    return found
