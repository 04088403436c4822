"""A full report on a dataset: statistics and every fault."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tqdm import tqdm

from ...utils.errors import DataError
from ..datasets import find_files, is_lvis
from ..formats.coco import CocoData, image_entries
from ..images import MAX_PIXELS
from .fields import is_named
from .files import check_files
from .findings import Finding, Inspection
from .gate import format_warning, inspect_file


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
    faults: dict[str, Finding] = field(default_factory=dict)  # by title; training and evaluation refuse them
    warnings: dict[str, Finding] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether no fault was found; warnings and unused classes are not faults."""
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
        lines += [f"WARNING: {format_warning(x)}" for x in self.warnings.values()]
        for kind, x in self.faults.items():
            more = f" and {x.count - len(x.examples)} more" if x.count > len(x.examples) else ""
            lines.append(f"FAULT, {x.count} x {kind}: {'; '.join(x.examples)}{more}: {x.rule.fix}")
        count = sum(x.count for x in self.faults.values())
        lines.append("no faults found" if self.ok else f"{count} {'fault' if count == 1 else 'faults'} found")
        return "\n".join(lines)


def check_dataset(
    name: str,
    open_images: bool = True,
    masks: bool = True,
    max_pixels: int = MAX_PIXELS,
    allow_outside: bool = False,
) -> DatasetReport:
    """Return the report on a registered dataset in COCO format.

    Args:
        name: Name of the dataset.
        open_images: Whether to decode every image, which finds damaged ones and those of another size than the json's.
        masks: Whether an object without a mask is a fault.
        max_pixels: Most pixels of an image; 0 for no limit.
        allow_outside: Whether names of images may lead out of their folder.

    Raises:
        ConfigError: No such dataset is registered.
        DataError: Its files are missing, it has no json, or the json is not COCO at all.
    """
    metadata = find_files(name)
    if not metadata.get("json_file"):
        raise DataError(f"the dataset '{name}' has no annotation file in COCO format to check")
    lvis = is_lvis(metadata)
    return check_coco_files(
        *(metadata.json_file, metadata.image_root, name, open_images, masks, max_pixels, lvis, allow_outside)
    )


def check_coco_files(
    json_file: str,
    image_root: str,
    name: str | None = None,
    open_images: bool = True,
    masks: bool = True,
    max_pixels: int = MAX_PIXELS,
    lvis: bool = False,
    allow_outside: bool = False,
) -> DatasetReport:
    """Return the report on an annotation file and its folder of images; see :func:`check_dataset`.

    ``lvis``: whether the file is read as LVIS's, not as COCO's.
    """
    data, found = inspect_file(json_file, lvis)
    images = tqdm(image_entries(data, lvis), "images", unit_scale=True, mininterval=1.0, leave=False)
    check_files(
        images, image_root, found.findings, decode=open_images, max_pixels=max_pixels, allow_outside=allow_outside
    )
    return DatasetReport(
        name=name or json_file,
        num_images=len(data.images),
        num_empty_images=found.counts["empty_images"],
        num_annotations=len(data.annotations),
        num_crowds=found.counts["crowds"],
        num_polygons=found.counts["polygons"],
        num_rles=found.counts["rles"],
        num_without_mask=found.counts["without_mask"],
        objects_of_class=_count_objects(data, found),
        faults={x.rule.title: x for x in found.findings.errors(masks)},
        warnings={x.rule.title: x for x in found.findings.warnings(masks)},
    )


def _count_objects(data: CocoData, found: Inspection) -> dict[str, int]:
    """Return the number of objects of each class; classes of the same name are told apart by their ids."""
    classes = [(x["name"], x["id"]) for x in data.categories if is_named(x)]
    names = Counter(name for name, _ in classes)
    return {
        f"{name} (id {category_id})" if names[name] > 1 else name: found.objects_of_category[category_id]
        for name, category_id in classes
    }
