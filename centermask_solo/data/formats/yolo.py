"""YOLO's format for segmentation: a text file per image, one line per object, with normalized coordinates."""

from __future__ import annotations

from collections.abc import Sequence

from ...structures.outlines import join_polygons

DIGITS = 10  # significant, of a coordinate: a millionth of a pixel in images of 10,000 pixels


def yolo_lines(
    polygons: Sequence[Sequence[Sequence[float]]], classes: Sequence[int], width: int, height: int
) -> list[str]:
    """Return the lines of an image's file: the class of each object, and the x and y of its polygon from 0 to 1.

    A line holds one polygon. Several, whether parts or holes, are joined by bridges without width, as
    :func:`~centermask_solo.structures.outlines.join_polygons` does, so that an object remains one.

    Args:
        polygons: For each object its polygons, x1, y1, x2, y2, ... in pixels. Objects without polygons have no line.
        classes: Class of each object, from 0.
        width: Width of the image in pixels.
        height: Height of the image in pixels.
    """
    return [
        " ".join([str(number), *_normalized(join_polygons(parts), width, height)])
        for parts, number in zip(polygons, classes, strict=True)
        if parts
    ]


def _normalized(polygon: Sequence[float], width: int, height: int) -> list[str]:
    """Return the coordinates of a polygon as text, those outside of the image moved to its border."""
    sides = (width, height)
    return [f"{min(max(x / sides[i % 2], 0.0), 1.0):.{DIGITS}g}" for i, x in enumerate(polygon)]
