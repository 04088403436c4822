"""The single pass over an annotation file that finds every fault and everything that needs a repair."""

from __future__ import annotations

from typing import Any

from ...utils.memory import without_garbage_collection
from ..formats.coco import CocoData, Record
from . import rules
from .batch import Batch, describe
from .fields import check_annotation, check_categories, check_images, has_size, is_integer, read_integer
from .findings import Findings, Inspection, shorten

BATCH_SIZE = 4096  # annotations whose geometry is measured at once


@without_garbage_collection()
def inspect(data: CocoData) -> Inspection:
    """Return everything that a pass over an annotation file finds."""
    result = Inspection(Findings(len(data.annotations)))
    findings, counts = result.findings, result.counts
    if data.byte_order_mark:
        findings.add(rules.ENCODING, "the file")
    check_categories(data.categories, findings)
    images = check_images(data.images, findings)
    category_ids = {x["id"] for x in data.categories if is_integer(x.get("id"))}
    seen: set[int] = set()
    used: set[Any] = set()
    batch = Batch(result)
    for i, x in enumerate(data.annotations):
        # Most annotations take the short way
        annotation_id, crowd = x.get("id"), x.get("iscrowd")
        image = _find_image(images, x)
        if not _is_plain(x, category_ids):
            check_annotation(x, describe(x, image), category_ids, findings)
            annotation_id, crowd = read_integer(annotation_id), bool(read_integer(crowd) or crowd is True)
        if annotation_id is not None:
            if annotation_id in seen:
                findings.add(rules.ANNOTATION_ID_TWICE, describe(x, image))
            seen.add(annotation_id)
        counts["crowds"] += bool(crowd)
        if not crowd and is_integer(x.get("category_id")):
            result.objects_of_category[x["category_id"]] += 1
        if image is None:
            if "image_id" in x:
                findings.add(rules.ORPHAN, f"{describe(x, None)} (image {shorten(x['image_id'])})")
            counts["orphans"] += 1
            continue
        used.add(image["id"])
        counts["objects"] += not crowd
        if has_size(image):
            batch.add(i, x, image)
            if len(batch) >= BATCH_SIZE:
                batch.measure()
                batch = Batch(result)
    batch.measure()
    counts["empty_images"] = len(images) - len(used)
    _check_whole(data, result)
    return result


def _find_image(images: dict[Any, Record], x: Record) -> Record | None:
    try:
        return images.get(x.get("image_id"))
    except TypeError:  # a list or a dict
        return None


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
        and not x.get("ignore")
        and "keypoints" not in x
    )


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
        findings.add(rules.ALL_CROWDS, f"{counts['crowds']} crowds")
    elif len(result.dropped) >= num - counts["orphans"]:
        findings.add(rules.ALL_VANISH, f"{num} annotations")
    groups = {x.get("supercategory") for x in data.categories if isinstance(x.get("supercategory"), str)}
    for x in data.categories:
        if x.get("name") in groups and not result.objects_of_category[x.get("id", -1)]:
            findings.add(rules.ROOT_CLASS, str(x["name"]))
    for x in data.images:
        if isinstance(x.get("file_name"), str) and "\\" in x["file_name"]:
            findings.add(rules.BACKSLASH, x["file_name"])
