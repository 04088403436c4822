"""Read and write the COCO jsons that are divided and put together, with every entry as it is."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from ...utils.errors import DataError
from ...utils.files import atomic_write
from ..formats.coco import CocoData, read_coco_json, write_coco_json
from ..formats.packing import Record

CLASS_LISTS = ("neg_category_ids", "not_exhaustive_category_ids")  # of LVIS's images, with ids of categories


def read_whole(path: str) -> CocoData:
    """Return the content of a COCO json whose images and categories can be told apart by their ids.

    Raises:
        DataError: It is not COCO, or an entry lacks what identifies it.
    """
    if os.path.isdir(path):
        raise DataError(f"{path} is a folder: give COCO's json, which 'centermask-solo data convert' makes")
    data = read_coco_json(path)
    kinds = (("an image", data.images, "file_name"), ("a category", data.categories, "name"))
    for what, entries, name in kinds:
        for key, kind in (("id", Hashable), (name, str)):
            if any(key not in x or not isinstance(x[key], kind) for x in entries):
                raise DataError(
                    f"{path}: the '{key}' of {what} entry is missing or unusable: 'centermask-solo data check' lists "
                    "all faults"
                )
        ids = {x["id"] for x in entries}
        if len(ids) < len(entries):
            raise DataError(f"{path} has the id of {what} entry twice: make the ids unique")
    known_images, known_classes = {x["id"] for x in data.images}, {x["id"] for x in data.categories}
    for x in data.annotations:
        if not _is_listed(x.get("image_id"), known_images) or not _is_listed(x.get("category_id"), known_classes):
            raise DataError(
                f"{path}: annotation {x.get('id')} has image {x.get('image_id')} and category {x.get('category_id')}, "
                "one of which is not listed: 'centermask-solo data check' lists all faults"
            )
    for x in data.images:
        for key, listed in class_lists(x).items():
            unknown = [i for i in listed if not _is_listed(i, known_classes)]
            if unknown:
                raise DataError(
                    f"{path}: image {x['id']} has {unknown[0]} in '{key}', which is no category: correct it"
                )
    return data


def _is_listed(value: Any, ids: set[Any]) -> bool:
    return isinstance(value, Hashable) and value in ids


def with_class_ids(image: Record, new_ids: Mapping[Any, int]) -> Record:
    """Return the entry of an image with new ids in its lists of categories; those without one are left out."""
    return image | {key: [new_ids[i] for i in ids if i in new_ids] for key, ids in class_lists(image).items()}


def class_lists(image: Record) -> dict[str, list[Any]]:
    """Return the lists of ids of categories that the entry of an image has."""
    return {key: image[key] for key in CLASS_LISTS if isinstance(image.get(key), list)}


def write_part(path: str, data: CocoData, images: Sequence[Record], annotations: Iterable[Record]) -> None:
    """Write a COCO json with some of the images and annotations, and with all other entries of a file."""
    content: dict[str, Any] = {**data.others, "images": list(images), "annotations": list(annotations)}
    content["categories"] = data.categories
    with atomic_write(path) as file:
        write_coco_json(content, file)
