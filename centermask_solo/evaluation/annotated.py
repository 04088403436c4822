"""Whether a dataset has anything that results can be compared with."""

from __future__ import annotations

from ..data.coco_samples import outlines
from ..data.datasets import load_dataset


def has_objects(name: str) -> bool:
    """Return whether a registered dataset has an object that is no crowd, or ground truth of another kind.

    Raises:
        ConfigError: No such dataset is registered.
        DataError: Its files are missing, or its annotation file has a fault.
    """
    return any(
        "annotations" not in sample  # of a loading function that knows no objects
        or "sem_seg_file_name" in sample
        or any(not x.get("iscrowd", 0) for x in sample["annotations"])
        for sample in outlines(load_dataset(name))
    )
