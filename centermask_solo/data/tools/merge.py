"""Put several datasets together: classes by their names, ids numbered anew."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ...utils.errors import ConfigError, DataError
from ...utils.files import claim_file
from ...utils.text import counted
from ..formats.coco import CocoData, url_file_name
from ..formats.packing import Record
from .coco_files import class_lists, read_whole, with_class_ids, write_part
from .folders import check_image_folder


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

    Ids of classes and of licenses in the entries of images are the new ones; other entries of the file are those of the
    first.

    Args:
        json_files: Annotations in COCO's format. Classes of one name become one, in the order of their first mention.
        output: The json to write.
        image_roots: Folder of the images of each, or one of all. Names of images become relative to the folder that
            they share. Images without a name, as LVIS's, are in the folder that their URLs end with, or in this one.
        join: Whether an image that is in several files becomes one image with the objects of all.
        overwrite: Whether the output may exist.

    Raises:
        UserError: A file cannot be read or is given twice, two have the same image, or the output exists.
    """
    roots = _roots(json_files, image_roots)
    claim_file(output, json_files, overwrite=overwrite)
    parts = [read_whole(x) for x in json_files]
    for i, folder in enumerate(roots):
        if _is_folder_of_urls(parts[i].images, folder):
            parts[i], roots[i] = _named_from_above(parts[i], folder), os.path.dirname(os.path.abspath(folder))
    root = os.path.commonpath([os.path.abspath(x) for x in roots]) if roots else ""
    class_ids: dict[str, int] = {}
    categories: list[Record] = []
    for x in (x for part in parts for x in part.categories):
        if x["name"] not in class_ids:
            class_ids[x["name"]] = len(class_ids) + 1
            categories.append({**x, "id": len(class_ids)})
    licenses, license_ids = _merge_licenses(parts)
    images: dict[str, Record] = {}
    new_ids: list[dict[object, int]] = []
    for i, (part, path) in enumerate(zip(parts, json_files, strict=True)):
        new_classes = {x["id"]: class_ids[x["name"]] for x in part.categories}
        entries = _with_new_ids(part.images, new_classes, license_ids[i] if licenses else None)
        new_ids.append(_add_images(images, entries, path, os.path.relpath(roots[i], root) if roots else "", join))
    others = {**parts[0].others, "licenses": licenses} if licenses else parts[0].others
    whole = parts[0]._replace(categories=categories, others=others)
    total = sum(len(x.annotations) for x in parts)
    write_part(output, whole, list(images.values()), _annotations(parts, new_ids, class_ids))
    joined = sum(len(x.images) for x in parts) - len(images)
    return Merged(output, root, len(images), total, list(class_ids), joined)


def _roots(json_files: Sequence[str], image_roots: Sequence[str]) -> list[str]:
    """Return the folder of the images of each file, [] if none is given; raise ConfigError if they cannot be merged."""
    if len(json_files) < 2:
        raise ConfigError("give at least two files to merge")
    paths = [os.path.realpath(x) for x in json_files]
    twice = [x for x, path in zip(json_files, paths, strict=True) if paths.count(path) > 1]
    if twice:
        raise ConfigError(f"{twice[0]} is given twice, and its objects would be doubled: give each file once")
    roots = list(image_roots) * (len(json_files) if len(image_roots) == 1 else 1)
    for folder in image_roots:
        check_image_folder(folder)
    if roots and len(roots) != len(json_files):
        raise ConfigError(
            f"{counted(len(json_files), 'file')} but {counted(len(roots), 'folder')} of --images: give one "
            "folder for each"
        )
    return roots


def _is_folder_of_urls(images: Sequence[Record], folder: str) -> bool:
    """Return whether images that are named by their URLs, as "train2017/1.jpg", are in a folder without that part."""
    names = [x["file_name"] for x in images if x["file_name"] == url_file_name(x)]
    is_there = [any(os.path.isfile(os.path.join(folder, find(x))) for x in names) for find in (str, os.path.basename)]
    return is_there == [False, True]


def _named_from_above(part: CocoData, folder: str) -> CocoData:
    """Return a file with the names that its images, named by their URLs, have seen from the folder above theirs."""
    above = os.path.basename(os.path.abspath(folder))
    images = []
    for x in part.images:
        name = x["file_name"]
        name = os.path.basename(name) if name == url_file_name(x) else name
        images.append({**x, "file_name": f"{above}/{name}"})
    return part._replace(images=images)


def _merge_licenses(parts: Sequence[CocoData]) -> tuple[list[Record], list[list[tuple[Any, int]]]]:
    """Return the licenses of all files, numbered from 1, and for each file pairs of old and new ids."""
    licenses: list[Record] = []
    pairs: list[list[tuple[Any, int]]] = []
    for part in parts:
        listed = part.others.get("licenses")
        pairs.append([])
        for x in listed if isinstance(listed, list) else ():
            if not isinstance(x, dict) or "id" not in x:
                continue
            same = next((known for known in licenses if {**known, "id": None} == {**x, "id": None}), None)
            if same is None:
                same = {**x, "id": len(licenses) + 1}
                licenses.append(same)
            pairs[-1].append((x["id"], same["id"]))
    return licenses, pairs


def _with_new_ids(
    images: Iterable[Record], class_ids: Mapping[Any, int], license_ids: Sequence[tuple[Any, int]] | None
) -> Iterator[Record]:
    """Yield the images of a file with new ids of classes and licenses, those of licenses as they are with None."""
    for image in images:
        found = with_class_ids(image, class_ids)
        if license_ids is not None and "license" in image:
            found["license"] = next((new for old, new in license_ids if old == image["license"]), None)
        yield found


def _add_images(
    images: dict[str, Record], entries: Iterable[Record], path: str, folder: str, join: bool
) -> dict[object, int]:
    """Add the images of a file to those of the others, by their names; return the new id of each."""
    new_ids: dict[object, int] = {}
    for x in entries:
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
        else:
            for key, ids in class_lists(x).items():
                known[key] = sorted({*class_lists(known).get(key, []), *ids})
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
