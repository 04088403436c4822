"""Annotated objects and detections as columns, one entry per object, which every analysis reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...data.validation.gate import read_usable
from ...structures.rle_codes import Code, code_of
from ..results_file import read_results
from .federated import Bools, Federation, Ints, find_federation

Floats = NDArray[np.float64]
Record = dict[str, Any]
IoUType = Literal["segm", "bbox"]


@dataclass(frozen=True)
class Objects:
    """Objects sorted by image, within an image in the order of their file.

    Attributes:
        images: (N,) index of the image.
        classes: (N,) index of the class.
        areas: (N,) pixels.
        boxes: (N, 4) x, y, width, height in pixels.
        codes: Run-length code of each mask; empty if there are only boxes.
    """

    images: Ints
    classes: Ints
    areas: Floats
    boxes: Floats
    codes: list[Code]

    def __len__(self) -> int:
        return len(self.images)

    def starts(self, num_images: int) -> Ints:
        """Return (num_images + 1,) where the objects of each image start, and their number."""
        return np.searchsorted(self.images, np.arange(num_images + 1))


@dataclass(frozen=True)
class Annotated(Objects):
    """The ground truth of a dataset.

    Attributes:
        crowds: (N,) whether it is a crowd, which detections may be in without being counted.
        records: The images, sorted by id, as the annotation file has them.
        names: Class names, in the order of the category ids.
        category_ids: Category id of each class.
        federation: For which classes each image is annotated; None for all.
    """

    crowds: Bools
    records: list[Record]
    names: list[str]
    category_ids: list[int]
    federation: Federation | None = None


@dataclass(frozen=True)
class Detected(Objects):
    """Detections of a model.

    Attributes:
        scores: (N,).
        iou_type: "segm" for masks, "bbox" for boxes.
    """

    scores: Floats
    iou_type: IoUType


def read_annotated(path: str, iou_type: IoUType = "segm") -> Annotated:
    """Return the objects of an annotation file in COCO's format, which LVIS's is, too.

    Args:
        path: The file.
        iou_type: "bbox" if masks are not needed.

    Raises:
        DataError: The file has a fault.
    """
    data = read_usable(path, "", masks=iou_type == "segm")
    records = sorted(data.images, key=lambda x: x["id"])
    image_index = {x["id"]: i for i, x in enumerate(records)}
    class_index = {x["id"]: i for i, x in enumerate(data.categories)}
    images = np.array([image_index[x["image_id"]] for x in data.annotations], dtype=np.int64)
    order = images.argsort(kind="stable").tolist()
    objects = [data.annotations[i] for i in order]
    images = images[order]
    classes = np.array([class_index[x["category_id"]] for x in objects], dtype=np.int64)
    codes = []
    if iou_type == "segm":
        sizes = [(records[i]["height"], records[i]["width"]) for i in images.tolist()]
        codes = [code_of(x["segmentation"], *size) for x, size in zip(objects, sizes, strict=True)]
    return Annotated(
        images=images,
        classes=classes,
        areas=np.array([x["area"] for x in objects], dtype=np.float64),
        boxes=np.array([x["bbox"] for x in objects], dtype=np.float64).reshape(-1, 4),
        codes=codes,
        crowds=np.array([bool(x.get("iscrowd", 0)) for x in objects], dtype=np.bool_),
        records=records,
        names=data.classes,
        category_ids=list(class_index),
        federation=find_federation(records, class_index, images, classes, path),
    )


def read_detected(path: str, annotated: Annotated, iou_type: IoUType | None = None) -> Detected:
    """Return the detections of a results file.

    Args:
        path: See :func:`~centermask_solo.evaluation.results_file.read_results`.
        annotated: Ground truth of the images.
        iou_type: What is analyzed; None for masks if the file has them. Masks rank by "mask_score" where it is given.

    Raises:
        DataError: The file is missing, is not in such a format, or is of other images or classes.
    """
    results = read_results(path, annotated.records, dict(zip(annotated.names, annotated.category_ids, strict=True)))
    if iou_type is None:
        iou_type = "segm" if results.has_masks else "bbox"
    order = results.images.argsort(kind="stable")
    if iou_type == "segm":
        masks, boxes, areas = results.masks()
        codes = [masks[i] for i in order]
    else:
        boxes, codes = results.boxes(), []
        areas = boxes[:, 2] * boxes[:, 3]
    scores = results.scores("mask_score" if iou_type == "segm" else "score")[order]
    images, classes = results.images[order], results.classes[order]
    return Detected(images, classes, areas[order], boxes[order], codes, scores=scores, iou_type=iou_type)
