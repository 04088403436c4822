"""Annotation files of the user's own: their names, and datasets for those that are not in a config."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import (
    get_lvis_instances_meta,
    load_lvis_json,
    register_coco_instances,
    register_lvis_instances,
)

from ..utils.errors import ConfigError, DataError
from .coco_samples import Sample
from .formats.coco import moved_images
from .validation.gate import read_usable


def register_files(json_file: str, image_root: str = "", *, masks: bool = True) -> str:
    """Register an annotation file and its images for evaluation; return the name of the dataset.

    A file whose images have lists of ``neg_category_ids`` is read as LVIS's.

    Args:
        json_file: Annotations in COCO's or LVIS's format.
        image_root: Folder of the images; "" if they are not read.
        masks: Whether objects need masks.

    Raises:
        DataError: The file has a fault.
    """
    data = read_usable(json_file, image_root, masks=masks, keep=True)
    name = free_name(json_file)
    metadata = {"thing_classes": data.classes}
    if is_federated(data.images):
        if [x["id"] for x in data.categories] != list(range(1, len(data.categories) + 1)):
            raise DataError(f"{json_file} is in LVIS's format, whose category ids are 1, 2, ...: renumber them")
        register_lvis_instances(name, metadata, json_file, image_root)
    else:
        register_coco_instances(name, metadata, json_file, image_root)
        class_ids = {x["id"]: i for i, x in enumerate(data.categories)}
        MetadataCatalog.get(name).set(thing_dataset_id_to_contiguous_id=class_ids)
    return name


def load_lvis(json_file: str, image_root: str, name: str) -> list[Sample]:
    """Return the samples of an annotation file of LVIS's as Detectron2 does, and those that were merged with others.

    Args:
        json_file: Annotations in LVIS's format.
        image_root: Folder of the images.
        name: Name of the dataset.
    """
    root = os.path.join(image_root, "")  # to which Detectron2 adds no slash
    samples: list[Sample] = load_lvis_json(json_file, root, _name_for_lvis(name))
    moved = moved_images(json_file)
    for x in samples:
        if x["image_id"] in moved:
            x["file_name"] = root + moved[x["image_id"]]
    return samples


def _name_for_lvis(name: str) -> str | None:
    """Return what Detectron2's ``load_lvis_json`` needs as the name of a dataset.

    It replaces the classes of a dataset by those that it knows for the name; None keeps them: class 0 is category 1.
    """
    classes = MetadataCatalog.get(name).get("thing_classes")
    try:
        known = get_lvis_instances_meta(name)["thing_classes"]
    except ValueError:  # it knows no such name
        known = None
    return name if classes in (None, known) else None


def is_federated(images: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the images of a file are annotated for some classes only, as those of LVIS."""
    return bool(images) and all(isinstance(x.get("neg_category_ids"), list) for x in images)


def free_name(path: str, taken: Collection[str] = (), files: tuple[str, str] | None = None) -> str:
    """Return a name for a dataset: that of its file or folder, after that of the folder around if another has it.

    Args:
        path: The file or the folder.
        taken: Names that others will have.
        files: Annotation file and folder of the images of a dataset whose name may be returned again; None for none.

    Raises:
        ConfigError: There is none.
    """
    path = os.path.abspath(path)
    stem, folder = os.path.splitext(os.path.basename(path))[0], os.path.basename(os.path.dirname(path))
    for name in (stem, f"{folder}_{stem}", *(f"{folder}_{stem}_{i}" for i in range(2, 1000))):
        if name in taken:
            continue
        if name not in DatasetCatalog and name not in MetadataCatalog.list():
            return name
        known = MetadataCatalog.get(name)
        if files is not None and (known.get("json_file"), known.get("image_root")) == files:
            return name
    raise ConfigError(f"{path} has a name that all others have, too: rename it")
