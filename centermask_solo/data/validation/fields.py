"""Check the fields of categories, images and annotations, one entry at a time; geometry is checked elsewhere."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

from ..formats.coco import CocoData, Record
from . import rules
from .findings import Findings, Rule, shorten

MAX_PIXELS = 2**31  # of an image, so that native code can count them


def is_integer(value: Any) -> bool:
    """Return whether a value is an integer and not a Boolean."""
    return type(value) is int


def read_number(value: Any) -> float | None:
    """Return a finite number, given as such or as text; None if there is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def read_integer(value: Any) -> int | None:
    """Return an integer, given as such or as text; None if there is none."""
    if is_integer(value):
        return value
    number = read_number(value)
    return int(number) if number is not None and number == int(number) else None


def check_categories(categories: list[Record], findings: Findings) -> None:
    """Find faults of ``categories``."""
    if not categories:
        findings.add(rules.NO_CATEGORIES, "categories: []")
    for x in categories:
        if not is_named(x):
            findings.add(rules.CATEGORY_FIELDS, shorten(x))
    _check_unique(rules.CATEGORY_ID_TWICE, (x.get("id") for x in categories), findings)
    names = Counter(x["name"] for x in categories if is_named(x))
    alike = Counter(" ".join(name.casefold().split()) for name in names)
    for name, count in names.items():
        if count > 1:
            findings.add(rules.CATEGORY_NAME_TWICE, str(name))
        elif alike[" ".join(name.casefold().split())] > 1:
            findings.add(rules.CATEGORY_NAMES_ALIKE, shorten(name))
    _check_numbering(sorted({x["id"] for x in categories if is_integer(x.get("id"))}), findings)


def _check_numbering(ids: list[int], findings: Findings) -> None:
    if 0 in ids:
        findings.add(rules.CATEGORY_ID_ZERO, "category 0")
    if ids and (ids[0] not in (0, 1) or ids[-1] - ids[0] >= len(ids)):
        findings.add(rules.CATEGORY_ID_GAPS, f"{len(ids)} ids from {ids[0]} to {ids[-1]}")


def is_named(category: Record) -> bool:
    """Return whether a category has an id and a name."""
    name = category.get("name")
    return is_integer(category.get("id")) and isinstance(name, str) and bool(name.strip())


def check_images(images: list[Record], findings: Findings) -> dict[Any, Record]:
    """Find faults of ``images``, and return the images by id, without those that have none."""
    if not images:
        findings.add(rules.NO_IMAGES, "images: []")
    by_id: dict[Any, Record] = {}
    kinds: dict[bool, Any] = {}
    for x in images:
        image_id = x.get("id")
        usable_id = type(image_id) in (int, str) or (isinstance(image_id, float) and math.isfinite(image_id))
        if not usable_id or not has_file_name(x):
            findings.add(rules.IMAGE_FIELDS, shorten(x))
        elif not has_size(x):
            findings.add(rules.IMAGE_SIZE, f"{x['file_name']}: {shorten([x.get('width'), x.get('height')])}")
        if usable_id:
            kinds[isinstance(image_id, str)] = image_id
            by_id.setdefault(image_id, x)
    _check_unique(rules.IMAGE_ID_TWICE, (x.get("id") for x in images), findings)
    if len(kinds) == 2:
        findings.add(rules.IMAGE_IDS_MIXED, f"{shorten(kinds[False])} and {shorten(kinds[True])}")
    return by_id


def has_file_name(image: Record) -> bool:
    """Return whether an image names its file."""
    return isinstance(image.get("file_name"), str) and bool(image["file_name"])


def find_image(images: dict[Any, Record], annotation: Record) -> Record | None:
    """Return the image of an annotation, None if it has none."""
    try:
        return images.get(annotation.get("image_id"))
    except TypeError:  # a list or a dict
        return None


def has_size(image: Record) -> bool:
    """Return whether an image has a width and a height that native code can work with."""
    width: Any = image.get("width")
    height: Any = image.get("height")
    return is_integer(width) and is_integer(height) and width > 0 and height > 0 and width * height < MAX_PIXELS


def check_lvis_fields(data: CocoData, findings: Findings) -> None:
    """Find images and categories without the fields that distinguish LVIS's format from COCO's."""
    for x in data.images:
        for key in ("neg_category_ids", "not_exhaustive_category_ids"):
            if not isinstance(x.get(key), list):
                findings.add(rules.LVIS_IMAGE, f"image {shorten(x.get('id'))} without '{key}'")
    for x in data.categories:
        if x.get("frequency") not in ("r", "c", "f"):
            findings.add(rules.LVIS_CATEGORY, f"category {shorten(x.get('id'))}")


def check_annotation(x: Record, where: str, category_ids: set[int], findings: Findings) -> None:
    """Find faults of the fields of one annotation, except those of its image, its box and its mask.

    Args:
        x: The annotation.
        where: Its description in a message.
        category_ids: The ids in ``categories``.
        findings: What is added to.
    """
    missing = [key for key in ("id", "image_id", "category_id", "bbox") if key not in x]
    if missing:
        findings.add(rules.ANNOTATION_FIELDS, f"{where}: {shorten(x)} lacks '{missing[0]}'")
    if "id" in x and not is_integer(x["id"]):
        _check_read(read_integer(x["id"]), rules.TEXT_ID, rules.ANNOTATION_ID, f"{where}: {shorten(x['id'])}", findings)
    elif x.get("id", 1) < 1:
        findings.add(rules.NOT_POSITIVE_ID, where)
    if "category_id" in x:
        if not is_integer(x["category_id"]):
            findings.add(rules.CATEGORY_ID, f"{where}: {shorten(x['category_id'])}")
        elif x["category_id"] not in category_ids:
            findings.add(rules.UNKNOWN_CATEGORY, f"{where}: {x['category_id']} ({_ids(category_ids)} exist)")
    if x.get("ignore", 0) != 0:
        findings.add(rules.IGNORE, where)
    _check_crowd_and_area(x, where, findings)
    if "keypoints" in x:
        keypoints = x["keypoints"] or []
        if not isinstance(keypoints, list) or any(isinstance(k, str) or read_number(k) is None for k in keypoints):
            findings.add(rules.KEYPOINTS, f"{where}: {shorten(keypoints)}")


def _check_crowd_and_area(x: Record, where: str, findings: Findings) -> None:
    iscrowd, area = x.get("iscrowd"), x.get("area")
    if iscrowd is None:
        findings.add(rules.NO_ISCROWD, where)
    elif not (type(iscrowd) is int and iscrowd in (0, 1)):
        readable = read_integer(int(iscrowd) if isinstance(iscrowd, bool) else iscrowd)
        readable = readable if readable in (0, 1) else None
        _check_read(readable, rules.TEXT_ISCROWD, rules.ISCROWD, f"{where}: {shorten(iscrowd)}", findings)
    if area is None:
        findings.add(rules.NO_AREA, where)
        return
    number = read_number(area)
    if isinstance(area, str):
        _check_read(number, rules.TEXT_AREA, rules.AREA, f"{where}: {shorten(area)}", findings)
    elif number is None:
        findings.add(rules.AREA, f"{where}: {shorten(area)}")
    if number is not None and number < 0:
        findings.add(rules.NO_AREA, where)


def _check_read(value: float | None, warning: Rule, error: Rule, example: str, findings: Findings) -> None:
    """Find a value that had to be read as a number, or could not."""
    findings.add(error if value is None else warning, example)


def _check_unique(rule: Rule, ids: Iterable[Any], findings: Findings) -> None:
    seen: set[Any] = set()
    for x in ids:
        if isinstance(x, (list, dict)) or x is None:
            continue
        if x in seen:
            findings.add(rule, shorten(x))
        seen.add(x)


def _ids(ids: set[int]) -> str:
    listed: list[Any] = sorted(ids) or ["none"]
    return ", ".join(map(str, listed)) if len(listed) <= 8 else f"{len(listed)} ids from {listed[0]} to {listed[-1]}"
