"""Checks before training: datasets are registered and readable, and fit the model."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import NamedTuple

from detectron2.data import MetadataCatalog
from detectron2.data.catalog import Metadata

from ...utils.errors import ConfigError, DataError
from ...utils.text import counted, name_some
from ..datasets import find_files, has_instances_json, is_lvis, is_read_here, load_through_gate
from ..formats.coco import CocoData, NotAnnotatedError, Record, image_entries
from ..images import MAX_PIXELS, check_image
from ..processes import once_per_machine
from .files import check_orientation, find_files_of, image_path
from .findings import Findings
from .gate import FileKey, admit, clean_files, inspect_file, mark_clean
from .image_rules import OUTSIDE_PATH
from .rules import IMAGE_FIELDS, IMAGE_SIZE

NUM_SAMPLES = 8  # images that are opened before training

Classes = dict[str, list[str] | None]


class _Checked(NamedTuple):
    """What a process that checked tells the others."""

    classes: Classes
    clean: list[FileKey]  # annotation files that need no repair


def check_datasets(
    names: Sequence[str],
    num_classes: int | None,
    num_classes_key: str,
    masks: bool = True,
    max_pixels: int = MAX_PIXELS,
    unannotated: Collection[str] = (),
) -> Classes:
    """Check that datasets can be used with a model, and return the class names of each.

    Each json is checked completely by the rules of ``data check``, but only a few images are opened. From then on,
    annotation files that need a repair are loaded from a repaired copy. Generated datasets are generated. All processes
    must call this together: one per machine checks, and all return or raise the same.

    Args:
        names: Names of registered datasets.
        num_classes: Number of classes of the model; None if it is unknown.
        num_classes_key: Option that sets it, such as "MODEL.SOLOV2.NUM_CLASSES".
        masks: Whether the model needs masks, not only boxes.
        max_pixels: Most pixels of an image; 0 for no limit.
        unannotated: Names of datasets whose json may lack ``annotations``, as those of COCO's test sets.

    Returns:
        The class names in the order of the model's classes; None for a dataset that has none.

    Raises:
        ConfigError: A dataset is not registered, or has another number of classes than the model.
        DataError: A dataset lacks files, is not COCO, has a fault, or contradicts its registered class names.
    """

    def check() -> _Checked:
        classes: Classes = {}
        for name in dict.fromkeys(names):
            try:
                classes[name] = _check_one(name, num_classes, num_classes_key, masks, max_pixels)
            except NotAnnotatedError:
                if name not in unannotated:
                    raise
                classes[name] = MetadataCatalog.get(name).get("thing_classes")
        return _Checked(classes, clean_files())

    all_found = once_per_machine(check)
    for x in all_found:
        for key in x.clean:
            mark_clean(key)
    for name in names:
        load_through_gate(name, masks)
        metadata = MetadataCatalog.get(name)
        if metadata.get("thing_classes") is None and all_found[0].classes[name] is not None:
            metadata.thing_classes = all_found[0].classes[name]  # Detectron2 sets them only when it loads the dataset
    return all_found[0].classes


def check_num_classes(
    name: str, classes: Sequence[str], num_classes: int, num_classes_key: str, origin: str = ""
) -> None:
    """Raise ConfigError, with both numbers and the fix, unless dataset and model have the same number of classes.

    Args:
        name: Name of the dataset.
        classes: Its classes.
        num_classes: Number of classes of the model.
        num_classes_key: Option that sets it.
        origin: Where the number comes from, if it is another dataset: "as in '...'".
    """
    if len(classes) == num_classes:
        return
    fix = "give all datasets the same classes" if origin else f"set {num_classes_key} {len(classes)} or auto"
    raise ConfigError(
        f"{num_classes_key} is {num_classes}{' ' * bool(origin)}{origin}, but the dataset '{name}' has "
        f"{counted(len(classes), 'class')} ({name_some(classes, 3)}): {fix}"
    )


def _check_one(
    name: str, num_classes: int | None, num_classes_key: str, masks: bool, max_pixels: int
) -> list[str] | None:
    metadata = find_files(name)
    classes = metadata.get("thing_classes")
    if has_instances_json(metadata):
        data = _check_json(metadata, masks, max_pixels, keep=is_read_here(name))
        if metadata.get("evaluator_type") == "coco":
            if classes is not None and list(classes) != data.classes:
                raise DataError(
                    f"{metadata.json_file} has {counted(len(data.classes), 'class')}, which are not the "
                    f"{counted(len(classes), 'class')} "
                    f"registered for '{name}': give this data another name in DATASETS.COCO_JSON"
                )
            classes = data.classes
    if num_classes is not None and classes is not None:
        check_num_classes(name, classes, num_classes, num_classes_key)
    return None if classes is None else list(classes)


def _check_json(metadata: Metadata, masks: bool, max_pixels: int, keep: bool) -> CocoData:
    """Check the annotation file and a few images of a dataset; return the content of the file, which may be kept."""
    root, lvis = metadata.get("image_root", ""), is_lvis(metadata)
    data, found = inspect_file(metadata.json_file, lvis, keep=keep and not lvis)
    images = image_entries(data, lvis)
    outside = metadata.get("allow_outside_paths", False)
    find_files_of(images, root, found.findings, allow_outside=outside)
    if not any(x in found.findings for x in (IMAGE_FIELDS, IMAGE_SIZE, OUTSIDE_PATH)):
        # Before its annotations are checked, because an image of another size explains many of their faults
        _open_samples(images, root, found.findings, max_pixels)
    admit(found, metadata.json_file, root, masks=masks)
    return data


def _open_samples(images: list[Record], root: str, findings: Findings, max_pixels: int) -> None:
    """Open a few evenly spaced images that exist."""
    count = min(NUM_SAMPLES, len(images))
    for i in range(count):
        image = images[i * (len(images) - 1) // max(count - 1, 1)]
        path = image_path(image, root)
        if os.path.exists(path):
            check_image(path, (image["width"], image["height"]), max_pixels)
            check_orientation(path, findings)
