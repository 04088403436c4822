"""The datasets that can be named in a config: the generated shapes, and users' own COCO files."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json, register_coco_instances

from .shapes.generator import ANNOTATIONS, IMAGES, NUM_IMAGES, ensure_shapes
from .shapes.scenes import CLASSES


def shapes_root() -> str:
    """The folder of the generated shapes: ``shapes`` in the folder of all datasets, as Detectron2 looks for it."""
    return os.path.join(os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets")), "shapes")


def register_shapes(root: str, split: str) -> None:
    """Register the split as ``shapes_<split>``; it is generated when it is first used, if it is not there yet."""
    name, folder = f"shapes_{split}", os.path.join(root, split)
    json_file, image_root = os.path.join(folder, ANNOTATIONS), os.path.join(folder, IMAGES)

    def load() -> list[dict[str, Any]]:
        ensure_shapes(root, split)
        return load_coco_json(json_file, image_root, name)

    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(
        json_file=json_file,
        image_root=image_root,
        evaluator_type="coco",
        thing_classes=list(CLASSES),
        prepare=partial(ensure_shapes, root, split),
    )


def prepare_dataset(name: str) -> None:
    """Nothing, but afterwards the files of a registered dataset are there, if it is one that is generated."""
    prepare = MetadataCatalog.get(name).get("prepare")
    if prepare is not None:
        prepare()


def register_datasets(cfg: CfgNode) -> None:
    """Register the users' own datasets, ``DATASETS.COCO_JSON``: triples of a name, a json and a folder of images.

    Registering the same once more changes nothing.

    Raises:
        ValueError: an entry is no such triple, or its name belongs to another dataset.
    """
    for entry in cfg.DATASETS.COCO_JSON:
        if not isinstance(entry, (list, tuple)) or len(entry) != 3 or not all(isinstance(x, str) and x for x in entry):
            raise ValueError(
                f"DATASETS.COCO_JSON holds {entry!r}: each entry must be a name, a json and a folder of images, "
                "as in [['birds_train', 'birds/train.json', 'birds/images']]"
            )
        name, json_file, image_root = entry
        if name not in DatasetCatalog:
            register_coco_instances(name, {}, json_file, image_root)
            continue
        known = MetadataCatalog.get(name)
        if (known.get("json_file"), known.get("image_root")) != (json_file, image_root):
            raise ValueError(
                f"DATASETS.COCO_JSON names '{name}', which is already registered with {known.get('json_file')}: "
                "choose another name"
            )


for _split in NUM_IMAGES:
    register_shapes(shapes_root(), _split)
