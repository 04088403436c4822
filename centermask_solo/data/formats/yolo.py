"""YOLO's format for segmentation: a text file per image, one line per object, with normalized coordinates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...structures.outlines import join_polygons
from ...utils.errors import DataError
from ...utils.text import counted
from .clipping import OUTSIDE, clip_box, clip_polygon
from .objects import BOXES, CROWDS, AnnotatedImage, Lost, Object, polygons_of

DIGITS = 10  # significant, of a coordinate: a millionth of a pixel in images of 10,000 pixels
FAR_AWAY = 2.0  # sides of the image; coordinates beyond are in pixels by mistake, or no numbers
EMPTY = "objects without a pixel (left out)"
DECIMALS = 6  # of a coordinate in pixels that is read, so that those that were written come back


def yolo_lines(
    polygons: Sequence[Sequence[Sequence[float]]], classes: Sequence[int], width: int, height: int
) -> list[str]:
    """Return the lines of an image's file: the class of each object, and the x and y of its polygon from 0 to 1.

    Polygons are cut off at the border of the image. A line holds one polygon. Several, whether parts or holes, are
    joined by bridges without width, as :func:`~centermask_solo.structures.outlines.join_polygons` does, so that an
    object remains one.

    Args:
        polygons: For each object its polygons, x1, y1, x2, y2, ... in pixels. Objects without polygons in the image
            have no line.
        classes: Class of each object, from 0.
        width: Width of the image in pixels.
        height: Height of the image in pixels.
    """
    inside = [list(filter(None, (clip_polygon(x, width, height) for x in parts))) for parts in polygons]
    return [
        " ".join([str(number), *_normalized(join_polygons(parts), width, height)])
        for parts, number in zip(inside, classes, strict=True)
        if parts
    ]


def _normalized(polygon: Sequence[float], width: int, height: int) -> list[str]:
    """Return the coordinates of a polygon as text."""
    sides = (width, height)
    return [f"{x / sides[i % 2]:.{DIGITS}g}" for i, x in enumerate(polygon)]


def yolo_of_image(image: AnnotatedImage, class_numbers: Mapping[str, int], lost: Lost) -> list[str]:
    """Return the lines of an annotated image's file.

    Args:
        image: Image with its objects.
        class_numbers: Number of each class, from 0.
        lost: Counts the crowds, boxes and objects without a pixel, which are left out, and the objects whose parts or
            holes are joined.
    """
    polygons, classes = [], []
    for x in image.objects:
        if x.crowd or not x.segmentation:
            lost[CROWDS if x.crowd else BOXES] += 1
            continue
        found = polygons_of(x, image, lost, "joined by bridges without width")
        if not found:
            lost[EMPTY] += 1
            continue
        polygons.append(found)
        classes.append(class_numbers[x.name])
    return yolo_lines(polygons, classes, image.width, image.height)


def read_yolo(text: str, path: str, names: Sequence[str], width: int, height: int, lost: Lost) -> list[Object]:
    """Return the objects in the content of an image's file, cut off at its border; lines of five numbers are boxes.

    Args:
        text: Content of the file.
        path: Path of the file, for messages.
        names: Names of the classes.
        width: Width of the image in pixels.
        height: Height of the image in pixels.
        lost: Counts the objects outside of the image, which are left out.

    Raises:
        DataError: A line is neither a polygon nor a box, or its class has no name.
    """
    objects = []
    for i, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            number, values = int(words[0]), [float(x) for x in words[1:]]
        except ValueError:
            raise DataError(f"{path}, line {i}: {line[:40]!r} does not consist of numbers: correct it") from None
        if not 0 <= number < len(names):
            raise DataError(f"{path}, line {i}: class {number} has no name of the {len(names)}: add its name")
        if not all(abs(x) <= FAR_AWAY for x in values):
            raise DataError(
                f"{path}, line {i}: a coordinate is far outside of the image: write shares of the width and the "
                "height, from 0 to 1"
            )
        scaled = [round(x * (height if k % 2 else width), DECIMALS) for k, x in enumerate(values)]
        if len(values) == 4:
            x, y, w, h = scaled
            box = clip_box([x - w / 2, y - h / 2, w, h], width, height)
            found = Object(names[number], [], box)
        elif len(values) >= 6 and not len(values) % 2:
            polygon = clip_polygon(scaled, width, height)
            found = Object(names[number], [polygon] if polygon else [])
        else:
            raise DataError(
                f"{path}, line {i}: {counted(len(values), 'number')} after the class: a polygon has x and y "
                "of at least 3 points"
            )
        if found.segmentation or found.box:
            objects.append(found)
        else:
            lost[OUTSIDE] += 1
    return objects
