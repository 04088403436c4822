"""Read COCO annotation files and report the first thing that is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from detectron2.utils.file_io import PathManager

from ...utils.errors import ConfigError, DataError

Record = dict[str, Any]


class CocoData(NamedTuple):
    """The parts of a valid COCO annotation file."""

    images: list[Record]
    annotations: list[Record]
    categories: list[Record]  # sorted by id, the order of the model's classes

    @property
    def classes(self) -> list[str]:
        """The class names in the order of the model's classes."""
        return [x["name"] for x in self.categories]


def read_coco_json(path: str) -> CocoData:
    """Read and check an annotation file in COCO's format for instances.

    Raises:
        DataError: The file is missing, is not JSON, or is not in this format; the message names the first fault.
    """
    if not PathManager.isfile(path):
        raise DataError(f"the annotation file {path} is missing: correct the path")
    try:
        with PathManager.open(path, "r", encoding="utf-8") as file:
            data = json.load(file)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not COCO: it is not a text file, let alone JSON") from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path} is not COCO: it is not JSON, or truncated ({error}); create it again, or copy it again"
        ) from error
    if not isinstance(data, dict):
        raise DataError(f"{path} is not COCO: it holds a {type(data).__name__}, not a dict with 'images'")
    images, annotations, categories = (_list(path, data, x) for x in ("images", "annotations", "categories"))
    _check_categories(path, categories)
    _check_images(path, images)
    _check_annotations(path, annotations, {x["id"]: x for x in images}, {x["id"] for x in categories})
    return CocoData(images, annotations, sorted(categories, key=lambda x: x["id"]))


def take_images(coco: CocoData, count: int) -> Record:
    """Return the content of a COCO json with only the first ``count`` images, by id, that have a non-crowd object.

    Raises:
        ConfigError: There are fewer such images.
    """
    with_objects = {x["image_id"] for x in coco.annotations if not x.get("iscrowd", 0)}
    images = sorted((x for x in coco.images if x["id"] in with_objects), key=lambda x: x["id"])[:count]
    if len(images) < count:
        raise ConfigError(f"only {len(images)} images have an object, fewer than --count {count}: lower --count")
    chosen = {x["id"] for x in images}
    annotations = [x for x in coco.annotations if x["image_id"] in chosen]
    return {"info": {}, "images": images, "annotations": annotations, "categories": coco.categories}


def _list(path: str, data: Record, key: str) -> list[Record]:
    if key not in data:
        found = ", ".join(sorted(map(str, data))[:8]) or "nothing"
        raise DataError(f"{path} is not COCO: it lacks the list '{key}' (it has {found})")
    if not isinstance(data[key], list) or not all(isinstance(x, dict) for x in data[key]):
        raise DataError(f"{path} is not COCO: '{key}' is not a list of dicts")
    return data[key]


def _check_categories(path: str, categories: list[Record]) -> None:
    if not categories:
        raise DataError(f"{path} has no classes: its 'categories' is empty")
    for x in categories:
        if not _is_integer(x.get("id")) or not isinstance(x.get("name"), str):
            raise DataError(f"{path}: the category {_short(x)} needs an integer 'id' and a string 'name'")
    _check_unique(path, "category", (x["id"] for x in categories))


def _check_images(path: str, images: list[Record]) -> None:
    if not images:
        raise DataError(f"{path} has no images: its 'images' is empty")
    for x in images:
        if "id" not in x or not isinstance(x.get("file_name"), str):
            raise DataError(f"{path}: the image {_short(x)} needs an 'id' and a string 'file_name'")
        if not all(_is_integer(x.get(side)) and x[side] > 0 for side in ("width", "height")):
            raise DataError(f"{path}: the image {x['file_name']} needs positive integers 'width' and 'height'")
    _check_unique(path, "image", (x["id"] for x in images))


def _check_annotations(path: str, annotations: list[Record], images: dict[Any, Record], category_ids: set[int]) -> None:
    for x in annotations:
        for key in ("id", "image_id", "category_id", "bbox"):
            if key not in x:
                raise DataError(f"{path}: the annotation {_short(x)} lacks '{key}'")
        if not _is_integer(x["category_id"]):
            raise DataError(f"{path}: the annotation {_short(x)} has a category id that is not an integer")
    _check_unique(path, "annotation", (x["id"] for x in annotations))
    unknown = sorted({str(x["category_id"]) for x in annotations if x["category_id"] not in category_ids})
    if unknown:
        x = next(x for x in annotations if x["category_id"] not in category_ids)
        raise DataError(
            f"{path}: annotations (such as id {x['id']}) have the category ids {', '.join(unknown[:8])}, "
            f"which 'categories' lacks (it has {_ids(category_ids)}): add them there, or correct the annotations"
        )
    for x in annotations:
        what = f"{path}: the annotation with id {x['id']}"
        if not isinstance(x["bbox"], list) or len(x["bbox"]) != 4 or not all(map(_is_number, x["bbox"])):
            raise DataError(f"{what} has the bbox {_short(x['bbox'])}, which is not [x, y, width, height]")
        if x.get("ignore"):
            raise DataError(f"{what} has 'ignore', which is not part of COCO: use 'iscrowd', or remove it")
        _check_segmentation(what, x.get("segmentation"), images.get(x["image_id"]))


def _check_segmentation(what: str, segmentation: Any, image: Record | None) -> None:
    if not segmentation:
        return
    if isinstance(segmentation, list):
        if not all(isinstance(p, list) and (not p or _is_number(p[0])) for p in segmentation):
            raise DataError(f"{what} has polygons that are not a list of lists [x1, y1, x2, y2, ...]")
        return
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= set(segmentation):
        raise DataError(f"{what} has a segmentation that is neither polygons nor an RLE with 'size' and 'counts'")
    if image is not None and list(segmentation["size"]) != [image["height"], image["width"]]:
        raise DataError(
            f"{what} has an RLE of size {segmentation['size']}, but its image {image['file_name']} has "
            f"[height, width] = [{image['height']}, {image['width']}]: correct whichever is wrong"
        )


def _check_unique(path: str, what: str, ids: Iterable[Any]) -> None:
    seen: set[Any] = set()
    for x in ids:
        if isinstance(x, (list, dict)):
            raise DataError(f"{path}: the {what} id {_short(x)} is neither a number nor a string")
        if x in seen:
            raise DataError(f"{path}: the {what} id {x} occurs twice: ids must be unique")
        seen.add(x)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def _ids(ids: set[int]) -> str:
    listed = sorted(ids)
    return ", ".join(map(str, listed)) if len(listed) <= 8 else f"{len(listed)} ids from {listed[0]} to {listed[-1]}"
