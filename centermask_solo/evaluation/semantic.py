"""Evaluation of semantic segmentation."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import SemSegEvaluator
from detectron2.utils.file_io import PathManager
from numpy.typing import NDArray
from PIL import Image

from ..data.images import IMAGE_ERRORS
from ..utils.errors import DataError


def build_semantic_evaluator(dataset_name: str, output_dir: str | None = None, **options: Any) -> SemSegEvaluator:
    """Return Detectron2's evaluator with a reader of label images that works with numpy 2 and names unusable ones.

    Args:
        dataset_name: Registered dataset with ``stuff_classes`` and ``ignore_label``, whose samples have a
            "sem_seg_file_name".
        output_dir: Folder of ``sem_seg_predictions.json`` and ``sem_seg_evaluation.pth``.
        options: Further arguments of ``SemSegEvaluator``.
    """
    metadata = MetadataCatalog.get(dataset_name)
    read = partial(read_labels, num_classes=len(metadata.stuff_classes), ignore_label=metadata.ignore_label)
    return SemSegEvaluator(dataset_name, output_dir=output_dir, sem_seg_loading_fn=read, **options)


def read_labels(path: str, dtype: Any = int, *, num_classes: int, ignore_label: int) -> NDArray[Any]:
    """Return a label image as a new (H, W) array.

    Raises:
        DataError: It is missing, damaged or not of one channel, or has a label that is neither a class nor
            ``ignore_label``.
    """
    try:
        with PathManager.open(path, "rb") as file:
            labels = np.asarray(Image.open(file)).astype(dtype)
    except FileNotFoundError:
        raise DataError(
            f"the label image {path} is missing: datasets/prepare_panoptic_fpn.py creates those of panoptic datasets"
        ) from None
    except IMAGE_ERRORS as error:
        raise DataError(f"the label image {path} is damaged ({error}): create it again") from error
    if labels.ndim != 2:
        raise DataError(f"the label image {path} has {labels.shape[-1]} channels: it must have one, with a class each")
    unknown = labels[(labels != ignore_label) & ((labels < 0) | (labels >= num_classes))]
    if unknown.size:
        raise DataError(
            f"the label image {path} has the label {unknown[0]}, but the dataset has the classes 0 to {num_classes - 1} "
            f"and {ignore_label} for unlabeled pixels: correct it, or stuff_classes"
        )
    return labels
