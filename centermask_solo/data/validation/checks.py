"""Checks before training: datasets are registered and readable, and fit the model."""

from __future__ import annotations

import os
from collections.abc import Sequence

from detectron2.data.catalog import Metadata
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager

from ...utils.errors import ConfigError, DataError, UserError
from ...utils.text import name_some
from ..datasets import find_files
from ..formats.coco import CocoData, read_coco_json
from ..images import check_image

NUM_SAMPLES = 8  # images that are opened before training

Classes = dict[str, list[str] | None]


def check_datasets(names: Sequence[str], num_classes: int | None, num_classes_key: str) -> Classes:
    """Check that datasets can be used with a model, and return the class names of each.

    Each json is read completely, but only a few images are opened. Generated datasets are generated. All processes must
    call this together: one per machine checks, and all return or raise the same.

    Args:
        names: Names of registered datasets.
        num_classes: Number of classes of the model; None if it is unknown.
        num_classes_key: Option that sets it, such as "MODEL.SOLOV2.NUM_CLASSES".

    Returns:
        The class names in the order of the model's classes; None for a dataset that has none.

    Raises:
        ConfigError: A dataset is not registered, or has another number of classes than the model.
        DataError: A dataset lacks files, is not COCO, or contradicts its registered class names.
    """
    found: Classes | UserError = {}
    if comm.get_local_rank() == 0:
        try:
            found = {name: _check_one(name, num_classes, num_classes_key) for name in dict.fromkeys(names)}
        except UserError as error:
            found = error
    all_found = comm.all_gather(found)
    for x in all_found:
        if isinstance(x, UserError):
            raise x
    return all_found[0]


def check_num_classes(name: str, classes: Sequence[str], num_classes: int, num_classes_key: str) -> None:
    """Raise ConfigError, with both numbers and the fix, unless dataset and model have the same number of classes."""
    if len(classes) == num_classes:
        return
    plural = "class" if len(classes) == 1 else "classes"
    raise ConfigError(
        f"{num_classes_key} is {num_classes}, but the dataset '{name}' has {len(classes)} {plural} "
        f"({name_some(classes, 3)}): set {num_classes_key} {len(classes)}"
    )


def _check_one(name: str, num_classes: int | None, num_classes_key: str) -> list[str] | None:
    metadata = find_files(name)
    classes = metadata.get("thing_classes")
    if metadata.get("evaluator_type") == "coco" and metadata.get("json_file"):
        data = read_coco_json(metadata.json_file)
        if classes is not None and list(classes) != data.classes:
            raise DataError(
                f"{metadata.json_file} has {len(data.classes)} classes, which are not the {len(classes)} classes "
                f"registered for '{name}': give this data another name in DATASETS.COCO_JSON"
            )
        classes = data.classes
        _check_samples(metadata, data)
    if num_classes is not None and classes is not None:
        check_num_classes(name, classes, num_classes, num_classes_key)
    return None if classes is None else list(classes)


def _check_samples(metadata: Metadata, data: CocoData) -> None:
    """Open a few evenly spaced images."""
    count = min(NUM_SAMPLES, len(data.images))
    for i in range(count):
        image = data.images[i * (len(data.images) - 1) // max(count - 1, 1)]
        path = PathManager.get_local_path(os.path.join(metadata.image_root, image["file_name"]))
        check_image(path, (image["width"], image["height"]))
