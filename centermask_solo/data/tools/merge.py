"""Put several datasets together: classes by their names, ids numbered anew."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ...utils.errors import ConfigError, DataError
from ...utils.files import claim_file
from ...utils.text import counted
from ..formats.coco import CocoData
from ..formats.packing import Record
from .coco_files import read_whole, write_part


class Merged(NamedTuple):
    """What several datasets became.

    Attributes:
        file: The json.
        image_root: Folder of its images; "" where none was given.
        images: Number of images.
        objects: Number of objects.
        classes: Names of the classes, in order.
        joined: Number of images that were in several files.
    """

    file: str
    image_root: str
    images: int
    objects: int
    classes: list[str]
    joined: int


def merge_datasets(
    json_files: Sequence[str],
    output: str,
    image_roots: Sequence[str] = (),
    *,
    join: bool = False,
    overwrite: bool = False,
) -> Merged:
    """Write one json with the images and annotations of several, all numbered from 1.

    Args:
        json_files: Annotations in COCO's format. Classes of one name become one, in the order of their first mention.
        output: The json to write.
        image_roots: Folder of the images of each, or one of all. Names of images become relative to the folder that
            they share.
        join: Whether an image that is in several files becomes one image with the objects of all.
        overwrite: Whether the output may exist.

    Raises:
        UserError: A file cannot be read or is given twice, two have the same image, or the output exists.
    """
    if len(json_files) < 2:
        raise ConfigError("give at least two files to merge")
    paths = [os.path.realpath(x) for x in json_files]
    twice = [x for x, path in zip(json_files, paths, strict=True) if paths.count(path) > 1]
    if twice:
        raise ConfigError(f"{twice[0]} is given twice, and its objects would be doubled: give each file once")
    roots = list(image_roots) * (len(json_files) if len(image_roots) == 1 else 1)
    if roots and len(roots) != len(json_files):
        raise ConfigError(
            f"{counted(len(json_files), 'file')} but {counted(len(roots), 'folder')} of --images: give one "
            "folder for each"
        )
    claim_file(output, json_files, overwrite=overwrite)
    root = os.path.commonpath([os.path.abspath(x) for x in roots]) if roots else ""
    parts = [read_whole(x) for x in json_files]
    class_ids: dict[str, int] = {}
    categories: list[Record] = []
    for x in (x for part in parts for x in part.categories):
        if x["name"] not in class_ids:
            class_ids[x["name"]] = len(class_ids) + 1
            categories.append({**x, "id": len(class_ids)})
    images: dict[str, Record] = {}
    new_ids: list[dict[object, int]] = []
    for part, path, folder in zip(parts, json_files, roots or [""] * len(parts), strict=True):
        new_ids.append(_add_images(images, part, path, os.path.relpath(folder, root) if roots else "", join))
    whole = parts[0]._replace(categories=categories)
    total = sum(len(x.annotations) for x in parts)
    write_part(output, whole, list(images.values()), _annotations(parts, new_ids, class_ids))
    joined = sum(len(x.images) for x in parts) - len(images)
    return Merged(output, root, len(images), total, list(class_ids), joined)


def _add_images(images: dict[str, Record], part: CocoData, path: str, folder: str, join: bool) -> dict[object, int]:
    """Add the images of a file to those of the others, by their names; return the new id of each."""
    new_ids: dict[object, int] = {}
    for x in part.images:
        name = os.path.normpath(os.path.join(folder, x["file_name"].replace("\\", "/"))).replace(os.sep, "/")
        known = images.get(name)
        if known is None:
            images[name] = {**x, "id": len(images) + 1, "file_name": name}
        elif not join:
            raise DataError(
                f"{path} and another file have the image {name}: give the folder of each file's images by --images if "
                "they are different images, or --join if they are the same"
            )
        elif (known.get("width"), known.get("height")) != (x.get("width"), x.get("height")):
            raise DataError(f"{path} and another file have the image {name}, but of different sizes: correct one")
        new_ids[x["id"]] = images[name]["id"]
    return new_ids


def _annotations(
    parts: Sequence[CocoData], new_ids: Sequence[dict[object, int]], class_ids: dict[str, int]
) -> Iterator[Record]:
    number = 0
    for part, ids in zip(parts, new_ids, strict=True):
        names = {x["id"]: x["name"] for x in part.categories}
        for x in part.annotations:
            number += 1
            yield {**x, "id": number, "image_id": ids[x["image_id"]], "category_id": class_ids[names[x["category_id"]]]}
