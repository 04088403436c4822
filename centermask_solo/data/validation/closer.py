"""A closer look at measured annotations: what does no harm to training, but is hardly meant."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from ..formats.coco import Record
from . import rules
from .fields import read_integer, read_number
from .findings import Findings
from .geometry import Bools, Floats

TINY = 2  # pixels; a box with a shorter side is tiny
MANY = 100  # objects of an image: COCO's metrics, and most models, stop there
MIN_AREA = 64  # pixels of a mask whose area is compared
GRID = 256  # pixels of the raster in which crossing polygons are filled
MAX_PAIRS = 1 << 20  # of edges that are looked at together
MIN_SAME = 0.9  # area of a polygon by its formula over its filled area; a bow tie has 0

Report = Callable[..., None]  # of a rule, the row of an annotation that breaks it, and how


class Measured(NamedTuple):
    """Annotations of a batch, row by row.

    Attributes:
        annotations: As the json has them.
        images: The image of each.
        boxes: (M, 4) x y width height; zeros for those that are malformed.
        usable: (M,) whether the box is one, and inside the image.
        areas: (M,) pixels of the masks; NaN for those with a fault.
        polygons: Row and coordinates of each polygon of a mask without a fault.
    """

    annotations: Sequence[Record]
    images: Sequence[Record]
    boxes: Floats
    usable: Bools
    areas: Floats
    polygons: Sequence[tuple[int, Sequence[float]]]


class Objects(NamedTuple):
    """The objects of a dataset that are no crowds and have a usable box.

    Attributes:
        boxes: (M, 4) float64 x0 y0 x1 y1 in pixels of the image.
        image_sizes: (M, 2) width and height of the image of each.
        images: (M,) number of the image of each.
    """

    boxes: Floats
    image_sizes: Floats
    images: Any


class CloserLook:
    """Looks at the annotations of a dataset, batch by batch, and keeps their boxes."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Any, Any]] = {}  # class and id of the first object with a box and a mask
        self._numbers: dict[int, int] = {}  # of the images, by the identity of their entries
        self._boxes: list[Floats] = []
        self._sizes: list[Floats] = []
        self._images = array("q")
        self._names: list[str] = []

    def look(self, found: Measured, report: Report) -> None:
        """Find what is wrong with the annotations of a batch.

        Args:
            found: The batch.
            report: Called with a rule, the row of an annotation that breaks it and, as ``note``, how.
        """
        crowd = np.array([read_integer(x.get("iscrowd")) == 1 or x.get("iscrowd") is True for x in found.annotations])
        with_polygons = {row for row, _ in found.polygons}
        for row in np.flatnonzero(crowd).tolist():
            if row in with_polygons:
                report(rules.CROWD_POLYGONS, row, note="iscrowd 1")
        chosen = found.usable & ~crowd
        for row in np.flatnonzero(chosen & (found.boxes[:, 2:].min(axis=1) < TINY)).tolist():
            report(rules.BOX_TINY, row, found.boxes[row].tolist())
        for row, polygon in found.polygons:
            if not crowd[row] and crosses_itself(np.asarray(polygon).reshape(-1, 2)):
                report(rules.POLYGON_CROSSES_ITSELF, row, note=f"{len(polygon) // 2} points")
                found.areas[row] = np.nan  # depends on how it is filled
        for row in np.flatnonzero(chosen).tolist():
            self._compare(found, row, report)
        self._keep(found, np.flatnonzero(chosen))

    def _compare(self, found: Measured, row: int, report: Report) -> None:
        """Compare an object with its area and with those before it."""
        x, area = found.annotations[row], found.areas[row]
        stated = read_number(x.get("area"))
        if stated is not None and stated >= 0 and area >= MIN_AREA and not area / 2 <= stated <= 2 * area:
            report(rules.AREA_DIFFERS, row, note=f"{stated:g}, not {area:g}")
        key = hash((id(found.images[row]), found.boxes[row].tobytes(), _fingerprint(x.get("segmentation"))))
        category, name = x.get("category_id"), x.get("id")
        first = self._seen.setdefault(key, (category, name))
        if first != (category, name):
            rule = rules.INSTANCE_TWICE if first[0] == category else rules.INSTANCE_OF_TWO_CLASSES
            report(rule, row, note=f"as annotation {first[1]}")

    def _keep(self, found: Measured, rows: Any) -> None:
        boxes = found.boxes[rows]
        self._boxes.append(np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1))
        images = [found.images[row] for row in rows]
        self._sizes.append(np.array([(x["width"], x["height"]) for x in images], dtype=np.float64).reshape(-1, 2))
        for x in images:
            number = self._numbers.setdefault(id(x), len(self._numbers))
            if number == len(self._names):
                self._names.append(str(x.get("file_name")))
            self._images.append(number)

    def finish(self, findings: Findings) -> Objects:
        """Find what only all annotations show, and return the objects."""
        for number, count in Counter(self._images).items():
            if count > MANY:
                findings.add(rules.OBJECTS_MANY, f"{self._names[number]} ({count})")
        empty = [np.zeros((0, 4))], [np.zeros((0, 2))]
        return Objects(
            np.concatenate(self._boxes or empty[0]),
            np.concatenate(self._sizes or empty[1]),
            np.array(self._images, dtype=np.int64),
        )


def _fingerprint(mask: Any) -> object:
    """Return something equal for equal masks."""
    if isinstance(mask, dict):
        return str(mask.get("counts"))
    if isinstance(mask, list):
        return b"|".join(x.tobytes() if isinstance(x, array) else str(x).encode() for x in mask)
    return None


def crosses_itself(points: Floats) -> bool:
    """Return whether edges of a polygon, (P, 2), cross, so that it is filled differently by different rules.

    Polygons drawn by hand cross themselves by hair's breadths everywhere; those whose filled area hardly depends on
    the rule do not count.
    """
    return len(points) > 3 and _area_depends_on_rule(points) and _edges_cross(points)


def _area_depends_on_rule(points: Floats) -> bool:
    """Return whether the area by the formula is less than the area that is filled, as far as a raster shows."""
    low = points.min(axis=0)
    scale = (GRID - 1) / max(float((points - low).max()), 1e-9)
    corners = np.rint((points - low) * scale).astype(np.int32)
    raster = np.zeros((GRID, GRID), np.uint8)
    cv2.fillPoly(raster, [corners], 1)
    filled = cv2.countNonZero(raster)
    if cv2.contourArea(corners) >= MIN_SAME * filled:  # of most polygons, without a look at the outline
        return False
    outline = np.zeros_like(raster)
    cv2.polylines(outline, [corners], True, 1)
    return cv2.contourArea(corners) < MIN_SAME * (filled - cv2.countNonZero(outline) / 2)  # half of which is inside


def _edges_cross(points: Floats) -> bool:
    """Return whether any two edges of a polygon cross, some edges at a time."""
    starts, ends = points, np.roll(points, -1, axis=0)
    step = max(1, MAX_PAIRS // len(points))
    for i in range(0, len(points), step):
        a, b = starts[i : i + step, None], ends[i : i + step, None]
        c, d = starts[None], ends[None]
        if ((_side(a, b, c) * _side(a, b, d) < 0) & (_side(c, d, a) * _side(c, d, b) < 0)).any():
            return True
    return False


def _side(a: Floats, b: Floats, point: Floats) -> Floats:
    """Return on which side of the line from a to b a point is, by the sign."""
    along, beside = b - a, point - a
    return np.asarray(along[..., 0] * beside[..., 1] - along[..., 1] * beside[..., 0])
