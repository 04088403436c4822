"""The dataset registry: generated shapes, users' own COCO files, and how a registered dataset is found and loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.catalog import Metadata
from detectron2.data.datasets import load_coco_json, load_lvis_json, register_coco_instances
from detectron2.utils.file_io import PathManager

from ..utils.errors import ConfigError, DataError, UserError
from ..utils.packages import missing_package
from ..utils.text import first_line, nearest_hint
from .shapes.generator import ANNOTATIONS, IMAGES, NUM_IMAGES, ensure_shapes
from .shapes.scenes import CLASSES
from .validation.gate import usable_json

# Modules whose loading functions only read the json
_JSON_LOADERS = (__name__, "detectron2.data.datasets.coco", "detectron2.data.datasets.lvis")

Sample = dict[str, Any]  # an image with its annotations, in Detectron2's standard format


def shapes_root() -> str:
    """Return the folder of the generated shapes: ``shapes`` below ``$DETECTRON2_DATASETS``, or below ``datasets``."""
    return os.path.join(os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets")), "shapes")


def register_shapes(root: str, split: str) -> None:
    """Register a split of the generated shapes as ``shapes_<split>``; its images are generated on first use."""
    name, folder = f"shapes_{split}", os.path.join(root, split)
    json_file, image_root = os.path.join(folder, ANNOTATIONS), os.path.join(folder, IMAGES)

    def load() -> list[Sample]:
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


def register_datasets(cfg: CfgNode) -> None:
    """Register the entries of ``DATASETS.COCO_JSON``: triples of a name, a json and a folder of images.

    Registering an entry again is a no-op.

    Raises:
        ConfigError: An entry is not such a triple, or its name belongs to another dataset.
    """
    for entry in cfg.DATASETS.COCO_JSON:
        if not isinstance(entry, (list, tuple)) or len(entry) != 3 or not all(isinstance(x, str) and x for x in entry):
            raise ConfigError(
                f"DATASETS.COCO_JSON holds {entry!r}: each entry must be a name, a json and a folder of images, "
                "as in [['birds_train', 'birds/train.json', 'birds/images']]"
            )
        name, json_file, image_root = entry
        if name not in DatasetCatalog:
            register_coco_instances(name, {}, json_file, image_root)
            continue
        known = MetadataCatalog.get(name)
        if (known.get("json_file"), known.get("image_root")) != (json_file, image_root):
            raise ConfigError(
                f"DATASETS.COCO_JSON names '{name}', which is already registered with {known.get('json_file')}: "
                "choose another name"
            )


def check_registered(name: str) -> None:
    """Raise ConfigError, with a similar name, unless a dataset of this name is registered."""
    if name in DatasetCatalog:
        return
    raise ConfigError(
        f"the dataset '{name}' is not registered{nearest_hint(name, DatasetCatalog)}; register "
        f"your own data by DATASETS.COCO_JSON \"[['{name}', 'annotations.json', 'images/']]\""
    )


def prepare_dataset(name: str) -> None:
    """Generate the files of a registered dataset, if it is a generated one and they are missing."""
    prepare = MetadataCatalog.get(name).get("prepare")
    if prepare is not None:
        prepare()


def find_files(name: str) -> Metadata:
    """Return the metadata of a registered dataset once its json and its folder of images, if it has any, exist.

    Raises:
        ConfigError: No such dataset is registered.
        DataError: Its files are missing.
    """
    check_registered(name)
    prepare_dataset(name)
    metadata = MetadataCatalog.get(name)
    files = {
        "json_file": "annotation file",
        "image_root": "folder of images",
        "sem_seg_root": "folder of label images",
    }
    for key, what in files.items():
        path = metadata.get(key)
        if path and not PathManager.exists(path):
            raise DataError(
                f"the dataset '{name}' lacks its {what} {path}: correct the path, or put it there "
                "(datasets/README.md has the layout of known datasets, whose folder DETECTRON2_DATASETS names)"
            )
    return metadata


def has_instances_json(metadata: Metadata) -> bool:
    """Return whether a dataset has an annotation file in COCO's format for instances, which LVIS's is, too."""
    kind = metadata.get("evaluator_type", "coco")
    return kind in ("coco", "coco_panoptic_seg", "lvis") and bool(metadata.get("json_file"))


def is_lvis(metadata: Metadata) -> bool:
    """Return whether the annotation file of a dataset is read as LVIS's."""
    return metadata.get("evaluator_type") == "lvis"


def load_through_gate(name: str, masks: bool = True) -> None:
    """Let a dataset in COCO's or LVIS's format be loaded, from now on, through the rules of validation.

    A json that needs a repair is then replaced by a repaired copy.

    A dataset with a loading function of its own keeps it.

    Args:
        name: Name of a registered dataset.
        masks: Whether objects need masks.
    """
    metadata = MetadataCatalog.get(name)
    if not has_instances_json(metadata) or DatasetCatalog[name].__module__ not in _JSON_LOADERS:
        return
    json_file, image_root = metadata.json_file, metadata.get("image_root", "")
    DatasetCatalog.remove(name)
    lvis = is_lvis(metadata)
    DatasetCatalog.register(name, lambda: _load_json(name, json_file, image_root, masks, lvis))


def _load_json(name: str, json_file: str, image_root: str, masks: bool, lvis: bool) -> list[Sample]:
    prepare_dataset(name)
    with usable_json(json_file, image_root, masks=masks, lvis=lvis) as path:
        if lvis:
            return load_lvis_json(path, os.path.join(image_root, ""), name)  # which does not add the slash
        return load_coco_json(path, image_root, name)


@contextmanager
def usable_annotations(name: str, masks: bool = True) -> Iterator[None]:
    """Inside the context, let the metadata of a dataset name a json that its evaluator reads as it is meant.

    This is for evaluators, which read the json when they are built. A dataset without a json is left alone.

    Args:
        name: Name of a registered dataset.
        masks: Whether masks are evaluated, not only boxes.

    Raises:
        DataError: the json has a fault.
    """
    metadata = MetadataCatalog.get(name)
    if not has_instances_json(metadata):
        yield
        return
    original = metadata.json_file
    with usable_json(original, metadata.get("image_root", ""), masks=masks, lvis=is_lvis(metadata)) as path:
        vars(metadata)["json_file"] = path  # Metadata refuses to change a value
        try:
            yield
        finally:
            vars(metadata)["json_file"] = original


def load_dataset(name: str) -> list[Sample]:
    """Return the samples of a registered dataset.

    Raises:
        ConfigError: No such dataset is registered.
        DataError: Its files are missing, or its annotation file has a fault.
        UserError: A package that it needs is not installed.
    """
    json_file = find_files(name).get("json_file")
    if DatasetCatalog[name].__module__ != __name__:
        load_through_gate(name, masks=False)
    try:
        return DatasetCatalog.get(name)
    except UserError:
        raise
    except ModuleNotFoundError as error:
        raise missing_package(str(error.name).partition(".")[0], name) from error
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, AssertionError) as error:
        if not json_file:
            raise  # of a function that the user registered
        raise DataError(
            f"the dataset '{name}' cannot be loaded ({type(error).__name__}: {first_line(error)}): correct "
            f"{json_file}, or the function that the dataset is registered with"
        ) from error


def class_names(name: str) -> list[str] | None:
    """Return the class names of a registered dataset, in the order of its annotations; None if it has none."""
    metadata = MetadataCatalog.get(name)
    if metadata.get("thing_classes") is None and metadata.get("evaluator_type") != "sem_seg":
        load_dataset(name)  # sets them
    names = metadata.get("thing_classes")
    return None if names is None else list(names)


for _split in NUM_IMAGES:
    register_shapes(shapes_root(), _split)
