"""What is wrong with a dataset, in one sentence and before training starts."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.catalog import Metadata
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager

from ..datasets import prepare_dataset
from ..formats.coco import CocoData, read_coco_json
from ..images import image_size, wrong_size

NUM_SAMPLES = 8  # images that are opened before training


Classes = dict[str, list[str] | None]


def check_datasets(names: Sequence[str], num_classes: int | None, num_classes_key: str) -> Classes:
    """The class names of each dataset, if all can be trained on or evaluated by a model of so many classes.

    Each json is read whole, but only a few images are opened. All processes of a training call this together: one of
    each machine checks, and all return or raise the same. Generated datasets are there afterwards.

    Args:
        names: of registered datasets.
        num_classes: of the model; None if it is unknown.
        num_classes_key: the config key that sets it, as in "MODEL.SOLOV2.NUM_CLASSES".

    Returns:
        The names of the classes in the model's order; None for a dataset that names none.

    Raises:
        ValueError, FileNotFoundError: one is not registered, lacks files, is not COCO, or has other classes.
    """
    found: Classes | ValueError | FileNotFoundError = {}
    if comm.get_local_rank() == 0:
        try:
            found = {name: _check_one(name, num_classes, num_classes_key) for name in dict.fromkeys(names)}
        except (ValueError, FileNotFoundError) as error:
            found = error
    all_found = comm.all_gather(found)
    for x in all_found:
        if isinstance(x, Exception):
            raise x
    return all_found[0]


def check_registered(name: str) -> None:
    """Nothing, if there is a dataset of this name.

    Raises:
        ValueError: there is none; the nearest name is given.
    """
    if name in DatasetCatalog:
        return
    near = difflib.get_close_matches(name, list(DatasetCatalog), n=1, cutoff=0.0)
    raise ValueError(
        f"the dataset '{name}' is not registered; the nearest name is '{near[0]}', and your own data becomes known by "
        f"DATASETS.COCO_JSON \"[['{name}', 'annotations.json', 'images/']]\""
    )


def check_num_classes(name: str, classes: Sequence[str], num_classes: int, num_classes_key: str) -> None:
    """Nothing, if the dataset has as many classes as the model.

    Raises:
        ValueError: it has not; both numbers and the mend are named.
    """
    if len(classes) == num_classes:
        return
    first = f"{', '.join(classes[:3])}{', ...' if len(classes) > 3 else ''}"
    plural = "class" if len(classes) == 1 else "classes"
    raise ValueError(
        f"{num_classes_key} is {num_classes}, but the dataset '{name}' has {len(classes)} {plural} ({first}): "
        f"set {num_classes_key} {len(classes)}"
    )


def find_files(name: str) -> Metadata:
    """The metadata of a registered dataset whose json and folder of images, if it names any, are there.

    Raises:
        ValueError, FileNotFoundError: it is not registered, or lacks them.
    """
    check_registered(name)
    prepare_dataset(name)
    metadata = MetadataCatalog.get(name)
    for key, what in (("json_file", "annotation file"), ("image_root", "folder of images")):
        path = metadata.get(key)
        if path and not PathManager.exists(path):
            raise FileNotFoundError(
                f"the dataset '{name}' lacks its {what} {path}: datasets/README.md says what belongs where, and the "
                "environment variable DETECTRON2_DATASETS which folder holds all datasets"
            )
    return metadata


def _check_one(name: str, num_classes: int | None, num_classes_key: str) -> list[str] | None:
    metadata = find_files(name)
    classes = metadata.get("thing_classes")
    if metadata.get("evaluator_type") == "coco" and metadata.get("json_file"):
        data = read_coco_json(metadata.json_file)
        if classes is not None and list(classes) != data.classes:
            raise ValueError(
                f"{metadata.json_file} has {len(data.classes)} classes, which are not the {len(classes)} that the name "
                f"'{name}' stands for: give this data another name with DATASETS.COCO_JSON"
            )
        classes = data.classes
        _check_samples(metadata, data)
    if num_classes is not None and classes is not None:
        check_num_classes(name, classes, num_classes, num_classes_key)
    return None if classes is None else list(classes)


def _check_samples(metadata: Metadata, data: CocoData) -> None:
    """Open a few images, evenly spread."""
    count = min(NUM_SAMPLES, len(data.images))
    for i in range(count):
        image = data.images[i * (len(data.images) - 1) // max(count - 1, 1)]
        path = os.path.join(metadata.image_root, image["file_name"])
        expected = (image["width"], image["height"])
        if image_size(PathManager.get_local_path(path)) != expected:
            raise wrong_size(path, expected)
