"""labelme's format: a json per image with its shapes; holds parts, holes and run-length codes exactly."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as rle

from ...structures.rle_codes import Code

VERSION = "5.5.0"  # of labelme, which wrote shapes of the type "mask" from 5.2 on
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
    pixels = rle.decode(code)
    rows, columns = (np.flatnonzero(pixels.any(axis=axis)) for axis in (1, 0))
    box = [0, 0, 0, 0] if not len(rows) else [int(x) for x in (columns[0], rows[0], columns[-1], rows[-1])]
    left, top, right, bottom = box
    png = cv2.imencode(".png", pixels[top : bottom + 1, left : right + 1] * np.uint8(255))[1]
    text = base64.b64encode(png).decode("ascii")
    return {"shape_type": "mask", "points": [[left, top], [right, bottom]], "mask": text}
