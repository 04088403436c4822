"""labelme's format: a json per image with its shapes; holds parts, holes and run-length codes exactly."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from ...structures.rle_codes import EMPTY, Code, Window, code_of, decode_window, encode_window, merge_codes
from ...utils.errors import DataError
from .clipping import OUTSIDE, clip_box, clip_polygon
from .objects import AnnotatedImage, Lost, Object

VERSION = "5.5.0"  # of labelme, which wrote shapes of the type "mask" from 5.2 on
CROWD, BOX_ONLY = "iscrowd", "box_only"  # flags of shapes
NO_CLASSES = ("__ignore__", "_background_")  # names in labelme's lists of classes that stand for none
CIRCLE_POINTS = 72  # of the polygon that replaces a circle: one every 5 degrees, within 0.1% of the radius

MAX_PIXELS = 2**32 - 1  # of an image, which run-length codes can count
FAR_AWAY = 10  # sides of the image by which a point may be outside, or drawing it would not end

Shape = dict[str, Any]


def labelme_document(file_name: str, width: int, height: int, shapes: Sequence[Shape]) -> dict[str, Any]:
    """Return the content of labelme's file for an image.

    Args:
        file_name: Path of the image from the folder of the file, with slashes.
        width: Width of the image in pixels.
        height: Height of the image in pixels.
        shapes: Shapes of :func:`labelme_shapes`, all objects after one another.
    """
    return {
        "version": VERSION,
        "flags": {},
        "shapes": list(shapes),
        "imagePath": file_name,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }


def labelme_shapes(
    label: str,
    segmentation: Sequence[Sequence[float]] | Code,
    group_id: int | None = None,
    flags: Mapping[str, bool] | None = None,
    description: str = "",
) -> list[Shape]:
    """Return the shapes of an object: a polygon for each of its parts, or a mask.

    Args:
        label: Name of its class.
        segmentation: As in COCO's format: polygons, x1, y1, x2, y2, ... in pixels, or the compressed code of a mask,
            which is kept pixel by pixel, holes included.
        group_id: Number that the shapes of this object, and only these, have in the file. Objects of several parts
            need one.
        flags: labelme's flags of each shape.
        description: labelme's text of each shape, such as a score.
    """
    shape = {"label": label, "group_id": group_id, "description": description, "flags": dict(flags or {})}
    if isinstance(segmentation, dict):
        return [{**shape, **_mask(segmentation)}]
    return [
        {**shape, "shape_type": "polygon", "points": np.reshape(polygon, (-1, 2)).tolist(), "mask": None}
        for polygon in segmentation
    ]


def _mask(code: Code) -> Shape:
    """Return the corners of a mask's box, both of them pixels inside, and its pixels as a PNG in base64."""
    left, top, pixels = decode_window(code)
    pixels = pixels if pixels.size else np.zeros((1, 1), np.bool_)
    height, width = pixels.shape
    png = cv2.imencode(".png", pixels * np.uint8(255))[1]
    text = base64.b64encode(png.tobytes()).decode("ascii")
    return {"shape_type": "mask", "points": [[left, top], [left + width - 1, top + height - 1]], "mask": text}


def labelme_of_image(image: AnnotatedImage, image_path: str) -> dict[str, Any]:
    """Return the content of labelme's file for an annotated image; nothing of it is lost.

    Args:
        image: Image with its objects. Crowds have a flag, and objects with only a box are rectangles with a flag.
        image_path: Path of the image from the folder of the file.
    """
    shapes: list[Shape] = []
    for i, x in enumerate(image.objects, 1):
        flags = {CROWD: True} if x.crowd else {}
        if x.segmentation:
            group = i if isinstance(x.segmentation, list) and len(x.segmentation) > 1 else None
            shapes += labelme_shapes(x.name, x.segmentation, group, flags)
        elif x.box:
            left, top, width, height = x.box
            (shape,) = labelme_shapes(
                x.name, [[left, top, left + width, top + height]], None, {**flags, BOX_ONLY: True}
            )
            shapes.append({**shape, "shape_type": "rectangle"})
    return labelme_document(image_path, image.width, image.height, shapes)


def read_labelme(document: Any, path: str, lost: Lost) -> list[Object]:
    """Return the objects in the content of a labelme file; shapes of one class and group are one object.

    Shapes, which labelme lets extend beyond the image, are cut off at its border.

    Args:
        document: Content of the json, with its ``imageHeight`` and ``imageWidth``.
        path: Path of the json, for messages.
        lost: Counts what is left out: points and lines, which have no area, what is outside of the image, and what has
            one of the names in ``NO_CLASSES``.

    Raises:
        DataError: It is no content of such a file.
    """
    size = document["imageHeight"], document["imageWidth"]
    if not all(isinstance(x, int) and x > 0 for x in size) or size[0] * size[1] > MAX_PIXELS:
        raise DataError(f"{path} has an image of {size[1]} x {size[0]} pixels: write the size of the image file")
    groups: dict[Any, list[Object]] = {}
    for i, shape in enumerate(document["shapes"]):
        try:
            found = _object(shape, size)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise DataError(
                f"{path}: shape {i} is not labelme's ({type(error).__name__}: {error}): correct it in labelme"
            ) from error
        if found is None:
            lost[f"shapes of the type {shape.get('shape_type')} (no area, left out)"] += 1
            continue
        if found.name in NO_CLASSES:
            lost[f"shapes labeled '{found.name}' (no class, left out)"] += 1
            continue
        if not found.segmentation and not found.box:
            lost[OUTSIDE] += 1
            continue
        group = shape.get("group_id")
        key = ("alone", i) if group is None else (found.name, str(group), found.crowd)
        groups.setdefault(key, []).append(found)
    return [_join(x, size) for x in groups.values()]


def _object(shape: Shape, size: tuple[int, int]) -> Object | None:
    """Return the object of a shape, without segmentation and box if it is outside of the image; None without area."""
    kind, flags = shape.get("shape_type", "polygon"), shape.get("flags") or {}
    points = np.asarray(shape["points"], dtype=float).reshape(-1, 2)
    if not (abs(points) <= FAR_AWAY * max(size)).all():
        raise ValueError("it has a point far outside of the image")
    height, width = size
    name, crowd = str(shape["label"]), bool(flags.get(CROWD))
    if kind == "mask":
        window = _window(shape["mask"], points, size)
        return Object(name, encode_window(window, size) if window.pixels.any() else [], crowd=crowd)
    if kind == "rectangle":
        (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
        if flags.get(BOX_ONLY):
            return Object(name, [], clip_box([left, top, right - left, bottom - top], width, height), crowd)
        points = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    elif kind == "circle":
        angles = np.arange(CIRCLE_POINTS) * (2 * np.pi / CIRCLE_POINTS)
        radius = np.linalg.norm(points[1] - points[0])
        points = points[0] + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    elif kind not in ("polygon", "oriented_rectangle") or len(points) < 3:
        return None
    inside = clip_polygon(points.ravel().tolist(), width, height)
    return Object(name, [inside] if inside else [], crowd=crowd)


def _window(text: str, points: Any, size: tuple[int, int]) -> Window:
    """Return the pixels of a shape of the type "mask" that are in the image."""
    content = np.frombuffer(base64.b64decode(text), np.uint8)
    pixels = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if len(content) else None
    if pixels is None or pixels.ndim != 2:
        raise ValueError("its mask is no PNG with one channel")
    left, top = points.min(axis=0).round().astype(int).tolist()
    inside = pixels[max(-top, 0) : max(size[0] - top, 0), max(-left, 0) : max(size[1] - left, 0)]
    return Window(max(left, 0), max(top, 0), inside > 0) if inside.size else EMPTY


def _join(objects: list[Object], size: tuple[int, int]) -> Object:
    """Return the one object of a group: all polygons, or one mask if a shape is a mask."""
    first = objects[0]
    if len(objects) == 1:
        return first
    if any(isinstance(x.segmentation, dict) for x in objects):
        codes = [code_of(x.segmentation, *size) for x in objects if x.segmentation]
        return first._replace(segmentation=merge_codes(codes))
    polygons = [x.segmentation for x in objects if isinstance(x.segmentation, list)]
    return first._replace(segmentation=[p for x in polygons for p in x])
