"""A full report on a dataset: statistics, and everything that the checks find."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from detectron2.config import CfgNode

from ...modeling.suggestions import Suggestion
from ...utils.errors import DataError
from ...utils.reading import error_without_images
from ...utils.text import counted
from ..datasets import find_files, is_lvis
from ..formats.coco import CocoData, image_entries
from ..images import MAX_PIXELS
from ..object_sizes import SIZES
from .catalog import select
from .closer import CloserLook
from .fields import is_named
from .files import find_files_of, find_unlisted
from .findings import Finding, Findings, Inspection
from .fit import suggest_options
from .gate import format_warning, inspect_file
from .image_files import ImageFile, check_image_files, find_copies, find_leaks
from .image_rules import CLASS_IN_ONE_SET, CLASSES_DIFFER, NEED_OTHER_PIXELS, NEED_PIXELS


@dataclass(frozen=True)
class Scope:
    """What is checked, and how.

    Attributes:
        open_images: Whether to decode every image, which finds damaged ones and those of another size than the json's.
        masks: Whether an object without a mask is a fault.
        max_pixels: Most pixels of an image; 0 for no limit.
        allow_outside: Whether names of images may lead out of their folder.
        lvis: Whether an annotation file is read as LVIS's, not as COCO's.
        checks: Ids of the checks to report, see :func:`~.catalog.select`.
    """

    open_images: bool = True
    masks: bool = True
    max_pixels: int = MAX_PIXELS
    allow_outside: bool = False
    lvis: bool = False
    checks: frozenset[str] = field(default_factory=select)


@dataclass
class DatasetReport:
    """Statistics of a dataset and what is wrong with it; ``str()`` formats the report."""

    name: str
    num_images: int
    num_empty_images: int  # without any annotation
    num_annotations: int
    num_crowds: int
    num_polygons: int  # annotations with polygons
    num_rles: int
    num_without_mask: int
    objects_of_class: dict[str, int]  # without crowds
    objects_of_size: dict[str, int]  # likewise
    faults: dict[str, Finding] = field(default_factory=dict)  # by title; training and evaluation refuse them
    warnings: dict[str, Finding] = field(default_factory=dict)
    notes: dict[str, Finding] = field(default_factory=dict)
    suggestions: list[Suggestion] = field(default_factory=list)  # options of a model

    @property
    def ok(self) -> bool:
        """Whether no fault was found; warnings and notes are not faults."""
        return not self.faults

    def add(self, findings: Findings, masks: bool = True, checks: frozenset[str] | None = None) -> None:
        """Sort what was found into faults, warnings and notes, if it is among the ``checks``."""
        groups = (
            (self.faults, findings.errors(masks)),
            (self.warnings, findings.warnings(masks)),
            (self.notes, findings.notes()),
        )
        for group, found in groups:
            group.update({x.rule.title: x for x in found if checks is None or x.rule.id in checks})

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON has it."""
        groups = (("error", self.faults), ("warning", self.warnings), ("note", self.notes))
        findings = [
            {
                "id": x.rule.id,
                "severity": severity,
                "count": x.count,
                "title": x.rule.title,
                "fix": x.rule.fix,
                "examples": x.examples,
            }
            for severity, group in groups
            for x in group.values()
        ]
        statistics = asdict(replace(self, faults={}, warnings={}, notes={}))
        for key in ("faults", "warnings", "notes"):
            del statistics[key]
        return {**statistics, "ok": self.ok, "findings": findings}

    def __str__(self) -> str:
        lines = [
            f"{self.name}: {counted(self.num_images, 'image')} ({self.num_empty_images} without annotations), "
            f"{counted(self.num_annotations, 'annotation')} ({counted(self.num_crowds, 'crowd')})",
            f"masks: {self.num_polygons} as polygons, {self.num_rles} as RLE, {self.num_without_mask} missing",
            f"sizes: {', '.join(f'{count} {size}' for size, count in self.objects_of_size.items())}",
            f"classes: {len(self.objects_of_class)}; objects per class: "
            + (", ".join(f"{name} {count}" for name, count in self.objects_of_class.items() if count) or "none"),
        ]
        lines += [f"SUGGESTION: {x}" for x in self.suggestions]
        lines += [f"NOTE: {format_warning(x)} [{x.rule.id}]" for x in self.notes.values()]
        lines += [f"WARNING: {format_warning(x)} [{x.rule.id}]" for x in self.warnings.values()]
        for kind, x in self.faults.items():
            more = f" and {x.count - len(x.examples)} more" if x.count > len(x.examples) else ""
            lines.append(f"FAULT, {x.count} x {kind}: {'; '.join(x.examples)}{more}: {x.rule.fix} [{x.rule.id}]")
        count = sum(x.count for x in self.faults.values())
        lines.append("no faults found" if self.ok else f"{counted(count, 'fault')} found")
        return "\n".join(lines)


def check_dataset(
    name: str,
    image_root: str | None = None,
    scope: Scope | None = None,
    against: tuple[str, str | None] | None = None,
    cfg: CfgNode | None = None,
) -> DatasetReport:
    """Return the report on a dataset in COCO format.

    Args:
        name: Its annotation file, or the name of a registered dataset.
        image_root: Folder of the images of an annotation file; None for a registered dataset.
        scope: What is checked; default: everything.
        against: Another dataset, likewise, such as the one for validation: the report tells what both share.
        cfg: Config of a model that is to be trained: the report tells which options would fit the objects better.

    Raises:
        ConfigError: A dataset is not registered.
        DataError: Its files are missing, it has no json, or the json is not COCO at all.
    """
    scope = scope or Scope()
    json_file, image_root, lvis = _locate(name, image_root, scope)
    other = None if against is None else _locate(*against, scope)
    closer = CloserLook()
    data, found = inspect_file(json_file, lvis, closer=closer)
    findings = found.findings
    objects = closer.finish(findings)
    files = _check_images(data, image_root, lvis, findings, scope, NEED_PIXELS)
    find_copies(files, findings)
    if other is not None:
        _compare(data, found, files, other, scope)
    suggestions = [] if cfg is None else suggest_options(cfg, objects, findings)
    areas = (objects.boxes[:, 2:] - objects.boxes[:, :2]).prod(axis=1)
    report = DatasetReport(
        name=name,
        num_images=len(data.images),
        num_empty_images=found.counts["empty_images"],
        num_annotations=len(data.annotations),
        num_crowds=found.counts["crowds"],
        num_polygons=found.counts["polygons"],
        num_rles=found.counts["rles"],
        num_without_mask=found.counts["without_mask"],
        objects_of_class=_count_objects(data, found),
        objects_of_size={size: int(((areas >= low) & (areas < high)).sum()) for size, low, high in SIZES},
        suggestions=suggestions,
    )
    report.add(findings, scope.masks, scope.checks)
    return report


def _locate(name: str, image_root: str | None, scope: Scope) -> tuple[str, str, bool]:
    """Return the annotation file of a dataset, its folder of images, and whether it is read as LVIS's."""
    if image_root is not None:
        return name, image_root, scope.lvis
    if name.endswith(".json"):
        raise error_without_images(name)
    metadata = find_files(name)
    if not metadata.get("json_file"):
        raise DataError(f"the dataset '{name}' has no annotation file in COCO format to check")
    return metadata.json_file, metadata.image_root, is_lvis(metadata)


def _check_images(
    data: CocoData, image_root: str, lvis: bool, findings: Findings, scope: Scope, wanted: frozenset[str]
) -> list[ImageFile]:
    """Check the image files of a dataset; decode them if that is asked for and any of the wanted checks needs it."""
    entries = image_entries(data, lvis)
    find_unlisted(entries, image_root, findings)
    images = find_files_of(entries, image_root, findings, allow_outside=scope.allow_outside)
    if not scope.open_images or not wanted & scope.checks:
        return []
    return check_image_files(images, findings, scope.max_pixels)


def _compare(
    data: CocoData, found: Inspection, files: list[ImageFile], other: tuple[str, str, bool], scope: Scope
) -> None:
    """Find what a dataset shares with another one, and the classes that it does not share."""
    findings = found.findings
    json_file, image_root, lvis = other
    other_data, other_found = inspect_file(json_file, lvis)
    names, other_names = ({str(x["name"]) for x in d.categories if is_named(x)} for d in (data, other_data))
    used, other_used = (_used_classes(*x) for x in ((data, found), (other_data, other_found)))
    for name in sorted((used ^ other_used) & names & other_names):
        findings.add(CLASS_IN_ONE_SET, f"{name} (only in {'the first' if name in used else 'the other'})")
    for name in sorted(names ^ other_names):
        findings.add(CLASSES_DIFFER, f"{name} (only in {'the first' if name in names else 'the other'})")
    ignored = Findings()  # the other set has a report of its own
    find_leaks(files, _check_images(other_data, image_root, lvis, ignored, scope, NEED_OTHER_PIXELS), findings)


def _used_classes(data: CocoData, found: Inspection) -> set[str]:
    """Return the names of the classes that have objects."""
    return {str(x["name"]) for x in data.categories if is_named(x) and found.objects_of_category[x["id"]]}


def _count_objects(data: CocoData, found: Inspection) -> dict[str, int]:
    """Return the number of objects of each class; classes of the same name are told apart by their ids."""
    classes = [(x["name"], x["id"]) for x in data.categories if is_named(x)]
    names = Counter(name for name, _ in classes)
    return {
        f"{name} (id {category_id})" if names[name] > 1 else name: found.objects_of_category[category_id]
        for name, category_id in classes
    }
