"""Scenes of generated shapes, painted back to front with exact masks of the visible pixels.

The mixture repeats every 100 images, so that any 100 consecutive images contain every kind of scene:

=============  ===  ==========================================================================================
ordinary        79  2 to 6 objects of 36 px up to 0.75 of the shorter side, at least 0.6 of each visible, some
                    truncated by the border
big              4  one object over most of the image, up to three small ones on it
empty            4  no object at all
pile             4  9 to 14 objects in one pile: slivers, parts, hidden objects
tiny             2  4 to 7 objects of 8 to 16 px
faint            4  as ordinary, but in colors close to the background's
crowd region     2  a cluster of one class, annotated as a crowd, with 2 to 4 ordinary objects
packed           1  61 to 66 objects of 8 to 28 px
=============  ===  ==========================================================================================

(Pixels of images of the default size; all but the smallest objects scale with the image.)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .outlines import OUTLINES, REACH
from .textures import Color, contrasting_color, fill, random_color

CLASSES: tuple[str, ...] = tuple(OUTLINES)
DEFAULT_SIZE = 256  # longer side of the largest images, pixels
SMALLEST = 8.0  # extent of the smallest objects, pixels
MIN_VISIBLE_PIXELS = 12  # of an object that is not completely hidden
# Smallest recognizable extent of some shapes, pixels
_SMALLEST_OF_CLASS = {"word": 22.0, "squiggle": 12.0, "frame": 11.0, "ring": 10.0}
_BACKGROUND = -1


class SceneObject(NamedTuple):
    """One annotated object of a scene."""

    class_index: int
    is_crowd: bool
    mask: NDArray[np.bool_]  # (H, W), the visible pixels


class Scene(NamedTuple):
    """An image and its visible objects."""

    kind: str
    image: NDArray[np.uint8]  # (H, W, 3), RGB
    objects: list[SceneObject]  # back to front; their masks are disjoint and not empty
    num_hidden: int  # objects that are completely covered by others


def scene_kind(index: int) -> str:
    """Return the kind of scene of the image at ``index``, counted from 0; see the table above."""
    if index % 100 == 7:
        return "packed"
    if index % 50 == 5:
        return "crowd region"
    if index % 50 == 11:
        return "tiny"
    return {1: "big", 3: "empty", 9: "pile", 13: "faint"}.get(index % 25, "ordinary")


def draw_scene(rng: Generator, kind: str, size: int = DEFAULT_SIZE) -> Scene:
    """Return a random scene, which is the same on every machine for the same state of the generator.

    Args:
        rng: Source of all randomness.
        kind: Kind of scene, as in the table above.
        size: Upper bound of the longer side, which is at least 0.75 of it, pixels.
    """
    long_side = round(size * rng.uniform(0.75, 1.0))
    short_side = round(long_side / (1.0, 4 / 3, 3 / 2)[rng.integers(3)])
    height, width = (short_side, long_side) if rng.random() < 0.65 else (long_side, short_side)
    painter = _Painter(rng, height, width, scale=size / DEFAULT_SIZE, faint=kind == "faint")
    _COMPOSERS[kind](rng, painter)
    return Scene(kind, painter.finished_image(), painter.objects(), painter.num_hidden())


class _Painter:
    """An unfinished image, with the topmost object of each pixel."""

    def __init__(self, rng: Generator, height: int, width: int, scale: float, faint: bool) -> None:
        self.rng, self.height, self.width, self.scale, self.faint = rng, height, width, scale, faint
        self.short_side = min(height, width)
        rows, columns = np.mgrid[0:height, 0:width] + 0.5
        self.ground: Color = random_color(rng)
        self.image = fill(rng, columns, rows, self.ground, variation=50.0)
        self.owner = np.full((height, width), _BACKGROUND, dtype=np.int32)
        self.classes: list[int] = []
        self.crowds: list[bool] = []
        self.full_areas: list[int] = []

    def add(
        self,
        extent: tuple[float, float],
        min_visible: float = 0.6,
        may_hide: bool = False,
        around: tuple[float, float, float] | None = None,
    ) -> bool:
        """Paint one object of a random class on top, and return whether a valid place was found.

        Args:
            extent: Smallest and largest diameter, pixels; the logarithm is distributed uniformly.
            min_visible: Share of every object below that must stay visible.
            may_hide: Whether objects below may also be hidden completely.
            around: (column, row, radius) of the disc that contains the center; by default the whole image.
        """
        class_index = int(self.rng.integers(len(CLASSES)))
        for _ in range(12):
            diameter = self._diameter(class_index, extent)
            if self._try(class_index, diameter, min_visible, may_hide, around):
                return True
        return False

    def _diameter(self, class_index: int, extent: tuple[float, float]) -> float:
        smallest = max(extent[0], _SMALLEST_OF_CLASS.get(CLASSES[class_index], 0.0))
        largest = max(extent[1], smallest)
        return float(smallest * (largest / smallest) ** self.rng.random())

    def _try(
        self,
        class_index: int,
        diameter: float,
        min_visible: float,
        may_hide: bool,
        around: tuple[float, float, float] | None,
    ) -> bool:
        middle = self._middle(diameter, around)
        window, distance, columns, rows = self._outline(class_index, middle, diameter / 2)
        solid = distance <= 0.0
        below = self.owner[window]
        if solid.sum() < MIN_VISIBLE_PIXELS or not self._leaves_enough(below[solid], min_visible, may_hide):
            return False
        below[solid] = len(self.classes)
        self.classes.append(class_index)
        self.crowds.append(False)
        self.full_areas.append(int(solid.sum()))
        self._paint(window, distance, columns, rows, self._color())
        return True

    def _middle(self, diameter: float, around: tuple[float, float, float] | None) -> tuple[float, float]:
        if around is not None:
            column, row, radius = around
            angle, along = self.rng.uniform(0.0, 2 * np.pi), radius * np.sqrt(self.rng.random())
            return float(column + along * np.cos(angle)), float(row + along * np.sin(angle))
        # One in six may extend beyond the border, by less than half of its extent
        margin = 0.1 * diameter if self.rng.random() < 1 / 6 else min(0.55 * diameter, 0.5 * self.short_side)
        return self.rng.uniform(margin, self.width - margin), self.rng.uniform(margin, self.height - margin)

    def _outline(
        self, class_index: int, middle: tuple[float, float], radius: float
    ) -> tuple[tuple[slice, slice], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return the window of an object, and in it the signed distance to its edge and the coordinates, in pixels."""
        reach = REACH * radius + 2
        left, top = (max(int(np.floor(c - reach)), 0) for c in middle)
        right, bottom = (max(int(np.ceil(c + reach)), 0) for c in middle)
        rows, columns = np.mgrid[top : min(bottom, self.height), left : min(right, self.width)] + 0.5
        angle = self.rng.uniform(0.0, 2 * np.pi)
        if CLASSES[class_index] == "word":
            angle = self.rng.uniform(-0.4, 0.4)  # stays legible
        cos, sin = np.cos(angle) / radius, np.sin(angle) / radius
        dx, dy = columns - middle[0], rows - middle[1]
        outline = OUTLINES[CLASSES[class_index]](self.rng)
        distance = outline(cos * dx + sin * dy, cos * dy - sin * dx) * radius
        return (slice(top, bottom), slice(left, right)), distance, columns, rows

    def _leaves_enough(self, covered: NDArray[np.int32], min_visible: float, may_hide: bool) -> bool:
        if not self.classes:
            return True
        count = len(self.classes)
        visible = np.bincount(self.owner[self.owner >= 0], minlength=count)
        left = visible - np.bincount(covered[covered >= 0], minlength=count)
        enough = left >= np.maximum(min_visible * np.asarray(self.full_areas), MIN_VISIBLE_PIXELS)
        if may_hide:
            enough |= left == 0
        return bool((enough | (left == visible)).all())

    def _color(self) -> Color:
        if self.faint:
            return contrasting_color(self.rng, self.ground, 60.0, 130.0)
        return contrasting_color(self.rng, self.ground, 150.0)

    def _paint(
        self,
        window: tuple[slice, slice],
        distance: NDArray[np.float64],
        columns: NDArray[np.float64],
        rows: NDArray[np.float64],
        color: Color,
    ) -> None:
        surface = fill(self.rng, columns, rows, color, variation=40.0 if self.faint else 90.0)
        if self.rng.random() < 0.5:  # a darker or brighter rim along the edge
            rim = np.clip(2.0 + distance, 0.0, 1.0)[..., None] * (-0.5 if self.rng.random() < 0.7 else 0.35)
            surface = np.clip(surface * (1.0 + rim), 0.0, 255.0)
        coverage = np.clip(0.5 - distance, 0.0, 1.0)[..., None]
        self.image[window] += (surface - self.image[window]) * coverage

    def add_crowd(self, middle: tuple[float, float], radius: float, count: int) -> None:
        """Paint many small, overlapping objects of one class as a single crowd."""
        class_index = int(self.rng.integers(len(CLASSES)))
        color, crowd = self._color(), len(self.classes)
        self.classes.append(class_index)
        self.crowds.append(True)
        for _ in range(count):
            diameter = self._diameter(class_index, (10.0, 20.0))
            place = self._middle(diameter, (*middle, radius))
            window, distance, columns, rows = self._outline(class_index, place, diameter / 2)
            self.owner[window][distance <= 0.0] = crowd
            self._paint(window, distance, columns, rows, np.clip(color * self.rng.uniform(0.6, 1.3), 0.0, 255.0))
        self.full_areas.append(int((self.owner == crowd).sum()))

    def finished_image(self) -> NDArray[np.uint8]:
        noise = self.rng.integers(-3, 4, size=(self.height, self.width, 1))
        return np.clip(np.rint(self.image) + noise, 0, 255).astype(np.uint8)

    def objects(self) -> list[SceneObject]:
        found = []
        for i, (class_index, crowd) in enumerate(zip(self.classes, self.crowds, strict=True)):
            mask = self.owner == i
            if mask.any():
                found.append(SceneObject(class_index, crowd, mask))
        return found

    def num_hidden(self) -> int:
        return len(self.classes) - len(np.unique(self.owner[self.owner >= 0]))


def _ordinary(rng: Generator, painter: _Painter) -> None:
    for _ in range(rng.integers(2, 7)):
        painter.add((36.0 * painter.scale, 0.75 * painter.short_side))


def _big(rng: Generator, painter: _Painter) -> None:
    middle = (painter.width / 2, painter.height / 2, 0.1 * painter.short_side)
    painter.add((0.85 * painter.short_side, 1.1 * painter.short_side), around=middle)
    for _ in range(rng.integers(0, 4)):
        painter.add((24.0 * painter.scale, 56.0 * painter.scale), min_visible=0.7)


def _empty(rng: Generator, painter: _Painter) -> None:
    """Add no object to the background."""


def _pile(rng: Generator, painter: _Painter) -> None:
    pile = (painter.width / 2, painter.height / 2, 0.3 * painter.short_side)
    for _ in range(rng.integers(9, 15)):
        extent = (28.0 * painter.scale, 0.5 * painter.short_side)
        painter.add(extent, min_visible=0.05, may_hide=True, around=pile)


def _tiny(rng: Generator, painter: _Painter) -> None:
    for _ in range(rng.integers(4, 8)):
        painter.add((SMALLEST, 2 * SMALLEST), min_visible=0.8)


def _crowd_region(rng: Generator, painter: _Painter) -> None:
    radius = 0.25 * painter.short_side
    middle = rng.uniform(radius, painter.width - radius), rng.uniform(radius, painter.height - radius)
    painter.add_crowd(middle, radius, count=int(rng.integers(30, 50)))
    for _ in range(rng.integers(2, 5)):
        painter.add((30.0 * painter.scale, 0.5 * painter.short_side), min_visible=0.6)


def _packed(rng: Generator, painter: _Painter) -> None:
    count = int(rng.integers(61, 67))
    smallest, largest = 12.0, 28.0
    while len(painter.classes) < count:
        if not painter.add((smallest, largest)):
            smallest, largest = max(0.95 * smallest, SMALLEST), max(0.95 * largest, SMALLEST)  # little space is left


_COMPOSERS = {
    "ordinary": _ordinary,
    "big": _big,
    "empty": _empty,
    "pile": _pile,
    "tiny": _tiny,
    "faint": _ordinary,
    "crowd region": _crowd_region,
    "packed": _packed,
}
