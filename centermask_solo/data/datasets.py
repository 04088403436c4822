"""The dataset registry: generated shapes, users' own COCO files, and how a registered dataset is found and loaded."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import NamedTuple

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.catalog import Metadata
from detectron2.data.datasets import load_coco_json, register_coco_instances
from detectron2.utils.file_io import PathManager

from ..utils.errors import ConfigError, DataError, UserError
from ..utils.packages import missing_package
from ..utils.text import first_line, nearest_hint
from .coco_samples import CocoSamples, Sample, image_samples
from .formats.coco import CocoData, NotAnnotatedError
from .own_files import load_lvis
from .shapes.generator import ANNOTATIONS, IMAGES, NUM_IMAGES, ensure_shapes
from .shapes.scenes import CLASSES
from .validation.files import refuse_outside
from .validation.gate import read_usable, usable_json

# Modules whose loading functions only read the json
_JSON_LOADERS = (__name__, "detectron2.data.datasets.coco", "detectron2.data.datasets.lvis")


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

    Registering an entry again is a no-op. ``DATASETS.ALLOW_OUTSIDE_PATHS`` holds for all datasets of the config.

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
    for name in {entry[0] for entry in cfg.DATASETS.COCO_JSON} | {*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST}:
        if name in DatasetCatalog:
            vars(MetadataCatalog.get(name))["allow_outside_paths"] = cfg.DATASETS.ALLOW_OUTSIDE_PATHS


def check_registered(name: str) -> None:
    """Raise ConfigError, with a similar name, unless a dataset of this name is registered."""
    if name in DatasetCatalog:
        return
    if os.path.isdir(name):
        raise ConfigError(
            f"{name} is a folder, not a registered dataset: give a json in COCO's format and the folder of its images; "
            f"'centermask-solo data convert --from {name} --to coco FOLDER' makes one"
        )
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


def is_read_here(name: str) -> bool:
    """Return whether a registered dataset is loaded by nothing but reading its annotation file."""
    return has_instances_json(MetadataCatalog.get(name)) and DatasetCatalog[name].__module__ in _JSON_LOADERS


def load_through_gate(name: str, masks: bool = True) -> None:
    """Let a dataset in COCO's or LVIS's format be loaded, from now on, through the rules of validation.

    A json that needs a repair is then replaced by a repaired copy.

    A dataset with a loading function of its own keeps it.

    Args:
        name: Name of a registered dataset.
        masks: Whether objects need masks.
    """
    metadata = MetadataCatalog.get(name)
    if not is_read_here(name):
        return
    json_file, image_root = metadata.json_file, metadata.get("image_root", "")
    DatasetCatalog.remove(name)
    lvis = is_lvis(metadata)
    DatasetCatalog.register(name, _JSONLoader(name, json_file, image_root, masks, lvis))


class _JSONLoader(NamedTuple):
    """The function that a dataset is registered with once it is loaded through the rules of validation."""

    name: str
    json_file: str
    image_root: str
    masks: bool
    lvis: bool

    def __call__(self) -> list[Sample]:
        """Return a list, as Detectron2 expects it."""
        return list(self.samples())

    def samples(self) -> Sequence[Sample]:
        """Return the samples, packed if they are COCO's and annotated."""
        if not self.lvis:
            with suppress(NotAnnotatedError):
                data, class_ids = self._read(keep=False)
                return CocoSamples(data, self.image_root, class_ids)
        prepare_dataset(self.name)
        with usable_json(self.json_file, self.image_root, masks=self.masks, lvis=self.lvis) as path:
            load = load_lvis if self.lvis else load_coco_json
            samples = load(path, self.image_root, self.name)
        self._refuse_outside(samples)
        return samples

    def images(self) -> list[Sample]:
        """Return the samples of an annotated file in COCO's format without their annotations; keep it for evaluation.

        Raises:
            NotAnnotatedError: It is not annotated.
            DataError: It has a fault.
        """
        return image_samples(self._read(keep=True)[0], self.image_root)

    def _refuse_outside(self, samples: Iterable[Sample]) -> None:
        if not MetadataCatalog.get(self.name).get("allow_outside_paths", False):
            refuse_outside((x["file_name"] for x in samples), self.image_root)

    def _read(self, keep: bool) -> tuple[CocoData, dict[int, int]]:
        """Return the content of the file and the class of each category id, which the metadata get, too."""
        prepare_dataset(self.name)
        data = read_usable(self.json_file, self.image_root, masks=self.masks, keep=keep)
        self._refuse_outside(image_samples(data, self.image_root))
        metadata, class_ids = MetadataCatalog.get(self.name), {x["id"]: i for i, x in enumerate(data.categories)}
        metadata.thing_classes, metadata.thing_dataset_id_to_contiguous_id = data.classes, class_ids
        return data, class_ids


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


def load_dataset(name: str) -> Sequence[Sample]:
    """Return the samples of a registered dataset: a list, or :class:`~.coco_samples.CocoSamples`.

    Raises:
        ConfigError: No such dataset is registered.
        DataError: Its files are missing, or its annotation file has a fault.
        UserError: A package that it needs is not installed.
    """
    json_file = find_files(name).get("json_file")
    if DatasetCatalog[name].__module__ != __name__:
        load_through_gate(name, masks=False)
    load = DatasetCatalog[name]
    try:
        return load.samples() if isinstance(load, _JSONLoader) else DatasetCatalog.get(name)
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


def load_test_images(name: str) -> list[Sample] | None:
    """Return the samples of a dataset without annotations, for the metrics of COCO; None if it is no such dataset.

    Raises:
        DataError: Its annotation file has a fault.
    """
    load = DatasetCatalog[name]
    if not isinstance(load, _JSONLoader) or load.lvis:
        return None
    try:
        return load.images()
    except NotAnnotatedError:
        return None


def class_names(name: str) -> list[str] | None:
    """Return the class names of a registered dataset, in the order of its annotations; None if it has none."""
    metadata = MetadataCatalog.get(name)
    if metadata.get("thing_classes") is None and metadata.get("evaluator_type") != "sem_seg":
        load_dataset(name)  # sets them
    names = metadata.get("thing_classes")
    return None if names is None else list(names)


for _split in NUM_IMAGES:
    register_shapes(shapes_root(), _split)
