"""Annotation files that no dataset is registered for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import get_lvis_instances_meta, register_coco_instances, register_lvis_instances

from ..utils.errors import DataError
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
    name = _free_name(os.path.splitext(os.path.basename(json_file))[0])
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


def name_for_lvis(name: str) -> str | None:
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


def _free_name(name: str) -> str:
    """Return a name that no dataset has."""
    used = {*DatasetCatalog.list(), *MetadataCatalog.list()}
    return next(x for i in range(1, len(used) + 2) if (x := name if i == 1 else f"{name}_{i}") not in used)
