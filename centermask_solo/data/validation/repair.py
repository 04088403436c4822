"""Repair in memory what can be repaired without guessing, for training and evaluation alike."""

from __future__ import annotations

import os
from typing import Any

from pycocotools import mask as rle

from ...structures.rle_codes import code_of
from ..formats.coco import CocoData, Record
from .fields import find_image, read_integer, read_number
from .findings import Inspection


def repair(data: CocoData, found: Inspection, image_root: str, masks: bool = True) -> Record:
    """Return the content of a COCO json that pycocotools and Detectron2 read as it is meant; ``data`` is unchanged.

    Annotations are numbered from 1. Those of unknown images, those without a usable box and, where masks are needed,
    those without a usable mask are left out.

    Args:
        data: An annotation file in which validation found no error.
        found: What validation found.
        image_root: Folder of the images.
        masks: Whether objects need masks.
    """
    images = {x["id"]: x for x in data.images}
    annotations: list[Record] = []
    for i, x in enumerate(data.annotations):
        image = find_image(images, x)
        if image is None or i in found.dropped or (masks and i in found.unmasked):
            continue
        new = {**x, "id": len(annotations) + 1, "iscrowd": int(read_integer(_as_integer(x.get("iscrowd"))) or 0)}
        if i in found.new_boxes:
            new["bbox"] = found.new_boxes[i]
        new["segmentation"] = _repair_mask(x, image, found.bad_polygons.get(i, set()), i in found.unmasked)
        area = read_number(x.get("area"))
        new["area"] = area if area is not None and area >= 0 else _measure_area(new, image)
        annotations.append(new)
    return {
        "info": {},
        "images": [{**x, "file_name": repair_file_name(x["file_name"], image_root)} for x in data.images],
        "annotations": annotations,
        "categories": data.categories,
    }


def _as_integer(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


def _repair_mask(x: Record, image: Record, bad_polygons: set[int], unmasked: bool) -> Any:
    """Return the segmentation without its bad polygons; an empty mask, which native code can read, if there is none."""
    if unmasked:
        return {"size": [image["height"], image["width"]], "counts": [image["height"] * image["width"]]}
    if not bad_polygons:
        return x["segmentation"]
    return [p for k, p in enumerate(x["segmentation"]) if k not in bad_polygons]


def _measure_area(x: Record, image: Record) -> float:
    """Return the area of the mask, or of the box if the mask is empty."""
    area = float(rle.area(code_of(x["segmentation"], image["height"], image["width"])))
    return area if area > 0 else float(x["bbox"][2] * x["bbox"][3])


def repair_file_name(name: str, image_root: str) -> str:
    """Return a file name with slashes for backslashes, unless the given one is the name of a file."""
    if "\\" not in name or os.path.exists(os.path.join(image_root, name)):
        return name
    return name.replace("\\", "/")
