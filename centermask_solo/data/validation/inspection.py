"""The single pass over an annotation file that finds every fault and everything that needs a repair."""

from __future__ import annotations

from typing import Any

from ...utils.memory import without_garbage_collection
from ...utils.text import counted
from ..formats.coco import CocoData, Record, url_file_name
from . import rules
from .batch import Batch, describe
from .closer import CloserLook
from .fields import (
    check_annotation,
    check_categories,
    check_images,
    find_image,
    has_size,
    is_integer,
    is_named,
    read_integer,
)
from .findings import Findings, Inspection, shorten

RARE = 10  # objects; fewer are few for a class
BATCH_SIZE = 512  # annotations whose geometry is measured at once


@without_garbage_collection()
def inspect(data: CocoData, closer: CloserLook | None = None) -> Inspection:
    """Return everything that a pass over an annotation file finds.

    Args:
        data: Content of the file.
        closer: Looks for what only a full report has, too.
    """
    result = Inspection(Findings(len(data.annotations)))
    findings, counts = result.findings, result.counts
    if data.byte_order_mark:
        findings.add(rules.ENCODING, "the file")
    if data.num_named_by_url:
        example = next(x["file_name"] for x in data.images if x.get("file_name") == url_file_name(x))
        findings.add(rules.NO_FILE_NAME, example, data.num_named_by_url)
    check_categories(data.categories, findings)
    images = check_images(data.images, findings)
    category_ids = {x["id"] for x in data.categories if is_integer(x.get("id"))}
    seen: set[int] = set()
    used: set[Any] = set()
    sized = {id(x) for x in images.values() if has_size(x)}
    batch = Batch(result, closer)
    for i, x in enumerate(data.annotations):
        # Most annotations take the short way
        annotation_id, crowd = x.get("id"), x.get("iscrowd")
        image = find_image(images, x)
        if not _is_plain(x, category_ids):
            check_annotation(x, describe(x, image), category_ids, findings)
            annotation_id, crowd = read_integer(annotation_id), crowd is True or read_integer(crowd) == 1
        if annotation_id is not None:
            if annotation_id in seen:
                findings.add(rules.ANNOTATION_ID_TWICE, describe(x, image))
            seen.add(annotation_id)
        counts["crowds"] += bool(crowd)
        if is_integer(x.get("category_id")):
            (result.crowds_of_category if crowd else result.objects_of_category)[x["category_id"]] += 1
        if image is None:
            if "image_id" in x:
                findings.add(rules.ORPHAN, f"{describe(x, None)} (image {shorten(x['image_id'])})")
            counts["orphans"] += 1
            continue
        used.add(image["id"])
        counts["objects"] += not crowd
        if id(image) in sized:
            batch.add(i, x, image)
            if len(batch) >= BATCH_SIZE:
                batch.measure()
                batch = Batch(result, closer)
    batch.measure()
    counts["empty_images"] = len(images) - len(used)
    for x in images.values():
        if x["id"] not in used:
            findings.add(rules.IMAGE_NO_OBJECTS, str(x.get("file_name")))
    _check_whole(data, result)
    return result


def _is_plain(x: Record, category_ids: set[int]) -> bool:
    """Return whether the fields of an annotation are as in COCO's own files."""
    fields: tuple[Any, ...] = x.get("id"), x.get("area"), x.get("iscrowd")
    annotation_id, area, iscrowd = fields
    return (
        type(annotation_id) is int
        and annotation_id > 0
        and type(iscrowd) is int
        and 0 <= iscrowd <= 1
        and type(area) in (int, float)
        and 0 <= area < 1e300
        and type(x.get("category_id")) is int
        and x["category_id"] in category_ids
        and "bbox" in x
        and "image_id" in x
        and x.get("ignore", 0) == 0
        and "keypoints" not in x
    )


def _check_shift(categories: list[Record], result: Inspection) -> None:
    """Find that the category ids of all annotations are off by one, which explains the unknown ones."""
    findings = result.findings
    known = {x["id"] for x in categories if is_integer(x.get("id"))}
    used = set(result.objects_of_category)
    if rules.UNKNOWN_CATEGORY in findings and any({x + shift for x in used} <= known for shift in (-1, 1)):
        count = sum(result.objects_of_category.values())
        findings.remove(rules.UNKNOWN_CATEGORY)
        findings.add(
            rules.CATEGORY_IDS_SHIFTED,
            f"the annotations have {min(used)} to {max(used)}, 'categories' {min(known)} to {max(known)}",
            count,
        )


def _check_number(category: Record, result: Inspection) -> None:
    """Find a class of which there are few objects or none."""
    number, crowds = (x[category["id"]] for x in (result.objects_of_category, result.crowds_of_category))
    if number == 0:
        result.findings.add(rules.CLASS_ONLY_CROWDS if crowds else rules.CLASS_NO_OBJECTS, str(category["name"]))
    elif number < RARE:
        result.findings.add(rules.CLASS_RARE, f"{category['name']} ({number})")


def _check_whole(data: CocoData, result: Inspection) -> None:
    """Find what only the whole file shows."""
    findings, counts = result.findings, result.counts
    num = len(data.annotations)
    if findings.count(rules.NORMALIZED) * 2 < counts["measured"]:
        findings.remove(rules.NORMALIZED)  # a few tiny objects in the upper left corner
    if num == 0:
        findings.add(rules.NO_ANNOTATIONS, "annotations: []")
    elif counts["orphans"] == num:
        ids = [shorten(x[0].get(key)) for x, key in ((data.images, "id"), (data.annotations, "image_id")) if x]
        findings.remove(rules.ORPHAN)
        findings.add(rules.ALL_ORPHANS, "the image ids " + " and ".join(ids))
    elif counts["objects"] == 0:
        findings.add(rules.ALL_CROWDS, counted(counts["crowds"], "crowd"))
    elif len(result.dropped) >= num - counts["orphans"]:
        findings.add(rules.ALL_VANISH, counted(num, "annotation"))
    _check_shift(data.categories, result)
    groups = {x.get("supercategory") for x in data.categories if isinstance(x.get("supercategory"), str)}
    for x in data.categories:
        if is_named(x) and x["name"] in groups and not result.objects_of_category[x["id"]]:
            findings.add(rules.ROOT_CLASS, str(x["name"]))
        elif is_named(x):
            _check_number(x, result)
    for x in data.images:
        if isinstance(x.get("file_name"), str) and "\\" in x["file_name"]:
            findings.add(rules.BACKSLASH, x["file_name"])
