"""A full report on a dataset: statistics and every fault."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.utils.file_io import PathManager
from pycocotools import mask as rle
from tqdm import tqdm

from ...utils.errors import DataError
from ..datasets import find_files
from ..formats.coco import CocoData, Record, read_coco_json
from ..images import check_image

MAX_EXAMPLES = 5  # per kind of fault in the text
TOLERANCE = 1.0  # pixels by which coordinates may exceed the image


@dataclass
class DatasetReport:
    """Statistics of a dataset and its faults; ``str()`` formats the report."""

    name: str
    num_images: int
    num_empty_images: int  # without any annotation
    num_annotations: int
    num_crowds: int
    num_polygons: int  # annotations with polygons
    num_rles: int
    num_without_mask: int
    objects_of_class: dict[str, int]  # without crowds
    faults: dict[str, list[str]] = field(default_factory=dict)  # kind of fault -> locations

    @property
    def ok(self) -> bool:
        """Whether no fault was found; an unused class is not a fault."""
        return not self.faults

    @property
    def unused_classes(self) -> list[str]:
        """The classes that have no object."""
        return [name for name, count in self.objects_of_class.items() if count == 0]

    def __str__(self) -> str:
        lines = [
            f"{self.name}: {self.num_images} images ({self.num_empty_images} without annotations), "
            f"{self.num_annotations} annotations ({self.num_crowds} crowds)",
            f"masks: {self.num_polygons} as polygons, {self.num_rles} as RLE, {self.num_without_mask} missing",
            f"classes: {len(self.objects_of_class)}; objects per class: "
            + ", ".join(f"{name} {count}" for name, count in self.objects_of_class.items()),
        ]
        if self.unused_classes:
            lines.append(f"classes without objects: {', '.join(self.unused_classes)}")
        for kind, where in self.faults.items():
            more = f" and {len(where) - MAX_EXAMPLES} more" if len(where) > MAX_EXAMPLES else ""
            lines.append(f"FAULT, {len(where)} x {kind}: {'; '.join(where[:MAX_EXAMPLES])}{more}")
        lines.append("no faults found" if self.ok else f"{sum(map(len, self.faults.values()))} faults found")
        return "\n".join(lines)


def check_dataset(name: str, open_images: bool = True) -> DatasetReport:
    """Return the report on a registered dataset in COCO format.

    Args:
        name: Name of the dataset.
        open_images: Whether to decode every image, which finds damaged ones and those of another size than the json's.

    Raises:
        ConfigError: No such dataset is registered.
        DataError: Its files are missing, it has no json, or the json is not COCO at all.
    """
    json_file = find_files(name).get("json_file")
    if not json_file:
        raise DataError(f"the dataset '{name}' has no annotation file in COCO format to check")
    return check_coco_files(json_file, MetadataCatalog.get(name).image_root, name, open_images)


def check_coco_files(
    json_file: str, image_root: str, name: str | None = None, open_images: bool = True
) -> DatasetReport:
    """Return the report on an annotation file and its folder of images; see :func:`check_dataset`."""
    data = read_coco_json(json_file)
    segmentations = [x.get("segmentation") for x in data.annotations]
    counts = Counter(x["category_id"] for x in data.annotations if not x.get("iscrowd"))
    report = DatasetReport(
        name=name or json_file,
        num_images=len(data.images),
        num_empty_images=len({x["id"] for x in data.images} - {x["image_id"] for x in data.annotations}),
        num_annotations=len(data.annotations),
        num_crowds=sum(bool(x.get("iscrowd")) for x in data.annotations),
        num_polygons=sum(isinstance(x, list) and bool(x) for x in segmentations),
        num_rles=sum(isinstance(x, dict) for x in segmentations),
        num_without_mask=sum(not x for x in segmentations),
        objects_of_class={x["name"]: counts[x["id"]] for x in data.categories},
    )
    faults: defaultdict[str, list[str]] = defaultdict(list)
    for kind, where in _annotation_faults(data):
        faults[kind].append(where)
    for kind, where in _image_faults(data, image_root, open_images):
        faults[kind].append(where)
    report.faults = dict(faults)
    return report


def _annotation_faults(data: CocoData) -> Iterator[tuple[str, str]]:
    images = {x["id"]: x for x in data.images}
    names = Counter(x["name"] for x in data.categories)
    for name, count in names.items():
        if count > 1:
            yield "class name of several categories", name
    for x in tqdm(data.annotations, "annotations", unit_scale=True, mininterval=1.0, leave=False):
        where = f"annotation {x['id']}"
        image = images.get(x["image_id"])
        if image is None:
            yield "annotation of an image that is not in the json", f"{where} (image {x['image_id']})"
            continue
        where += f" ({image['file_name']})"
        left, top, width, height = x["bbox"]
        if width <= 0 or height <= 0:
            yield "box without area", where
        elif not _inside([left, left + width], image["width"]) or not _inside([top, top + height], image["height"]):
            yield "box that extends beyond the image", where
        for kind in _mask_faults(x.get("segmentation"), image):
            yield kind, where


def _mask_faults(segmentation: Any, image: Record) -> Iterator[str]:
    if not segmentation:
        yield "object without mask"
    elif isinstance(segmentation, dict):
        size = (image["height"], image["width"])
        try:
            code = rle.frPyObjects(segmentation, *size) if isinstance(segmentation["counts"], list) else segmentation
            area = rle.decode(code).sum()
        except (ValueError, TypeError, KeyError):
            yield "RLE that cannot be decoded"
            return
        if area == 0:
            yield "RLE without any pixels"
    else:
        yield from dict.fromkeys(fault for p in segmentation for fault in _polygon_faults(p, image))


def _polygon_faults(polygon: list[float], image: Record) -> Iterator[str]:
    if len(polygon) < 6 or len(polygon) % 2:
        yield "polygon of fewer than 3 points or an odd number of values"
        return
    x, y = np.asarray(polygon, dtype=np.float64).reshape(-1, 2).T
    if abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2 < 1e-3:
        yield "polygon without area"
    if not _inside(x, image["width"]) or not _inside(y, image["height"]):
        yield "polygon that extends beyond the image"


def _inside(coordinates: Any, limit: int) -> bool:
    return bool(np.min(coordinates) >= -TOLERANCE and np.max(coordinates) <= limit + TOLERANCE)


def _image_faults(data: CocoData, image_root: str, open_images: bool) -> Iterator[tuple[str, str]]:
    for x in tqdm(data.images, "images", unit_scale=True, mininterval=1.0, leave=False):
        path = os.path.join(image_root, x["file_name"])
        if not PathManager.isfile(path):
            yield "missing image", path
            continue
        if not open_images:
            continue
        try:
            check_image(PathManager.get_local_path(path), (x["width"], x["height"]))
        except DataError as error:
            yield "unusable image", str(error)
