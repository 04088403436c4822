"""Read and write the COCO jsons that are divided and put together, with every entry as it is."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from ...utils.errors import DataError
from ...utils.files import atomic_write
from ..formats.coco import CocoData, read_coco_json, write_coco_json
from ..formats.packing import Record


def read_whole(path: str) -> CocoData:
    """Return the content of a COCO json whose images and categories can be told apart by their ids.

    Raises:
        DataError: It is not COCO, or an entry lacks what identifies it.
    """
    if os.path.isdir(path):
        raise DataError(f"{path} is a folder: give COCO's json, which 'centermask-solo data convert' makes")
    data = read_coco_json(path)
    for what, entries, keys in (
        ("image", data.images, ("id", "file_name")),
        ("category", data.categories, ("id", "name")),
    ):
        for key in keys:
            if any(key not in x for x in entries):
                raise DataError(f"{path} has an {what} without '{key}': 'centermask-solo data check' lists all faults")
        ids = {x["id"] for x in entries}
        if len(ids) < len(entries):
            raise DataError(f"{path} has an id twice among its {what} entries: make the ids unique")
    known_images, known_classes = {x["id"] for x in data.images}, {x["id"] for x in data.categories}
    for x in data.annotations:
        if x.get("image_id") not in known_images or x.get("category_id") not in known_classes:
            raise DataError(
                f"{path}: annotation {x.get('id')} has image {x.get('image_id')} and category {x.get('category_id')}, "
                "one of which is not listed: 'centermask-solo data check' lists all faults"
            )
    return data


def write_part(path: str, data: CocoData, images: Sequence[Record], annotations: Iterable[Record]) -> None:
    """Write a COCO json with some of the images and annotations, and with all other entries of a file."""
    content: dict[str, Any] = {**data.others, "images": list(images), "annotations": list(annotations)}
    content["categories"] = data.categories
    with atomic_write(path) as file:
        write_coco_json(content, file)
