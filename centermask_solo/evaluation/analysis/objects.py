"""Annotated objects and detections as columns, one entry per object, which every analysis reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from ...data.validation.gate import read_usable
from ...data.validation.geometry import is_number, measure_runs
from ...structures.rle_codes import Code
from ...utils.errors import DataError
from ...utils.memory import without_garbage_collection
from ...utils.reading import read_text, reading
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
        codes = [_encode(x["segmentation"], records[i]) for x, i in zip(objects, images.tolist(), strict=True)]
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


def _encode(segmentation: Any, record: Record) -> Code:
    """Return the code of an annotated mask: polygons, run lengths, or a code."""
    if isinstance(segmentation, dict) and not isinstance(segmentation["counts"], list):
        return segmentation
    code = rle.frPyObjects(segmentation, record["height"], record["width"])
    return rle.merge(code) if isinstance(code, list) else code


def read_detected(path: str, annotated: Annotated, iou_type: IoUType | None = None) -> Detected:
    """Return the detections of a results file.

    Args:
        path: A list in COCO's format for results, such as ``coco_instances_results.json``, or the
            ``predictions.json`` of ``centermask-solo predict``, whose images and classes are found by name.
        annotated: Ground truth of the images.
        iou_type: What is analyzed; None for masks if the file has them. Masks rank by "mask_score" where it is given.

    Raises:
        DataError: The file is missing, is not in such a format, or is of other images or classes.
    """
    results = read_results(path)
    if isinstance(results, dict):
        results = _with_ids_of(path, results, annotated)
    if iou_type is None:
        iou_type = "segm" if results and all("segmentation" in x for x in results) else "bbox"
    check = _Checker(path, results)
    images = check.index("image_id", {x["id"]: i for i, x in enumerate(annotated.records)})
    classes = check.index("category_id", {x: i for i, x in enumerate(annotated.category_ids)})
    scores = check.scores(iou_type)
    order = images.argsort(kind="stable")
    if iou_type == "segm":
        masks, boxes, areas = check.masks(images, annotated.records)
        codes = [masks[i] for i in order]
    else:
        boxes, codes = check.boxes(), []
        areas = boxes[:, 2] * boxes[:, 3]
    return Detected(
        *(images[order], classes[order], areas[order], boxes[order], codes), scores=scores[order], iou_type=iou_type
    )


def read_results(path: str) -> list[Record] | Record:
    """Return the content of a results file: a list of dicts, or the dict that ``centermask-solo predict`` writes.

    Raises:
        DataError: It is missing, not JSON, or something else.
    """
    try:
        with reading(path), without_garbage_collection():
            data = json.loads(read_text(path))
    except FileNotFoundError:
        raise DataError(f"the results file {path} is missing: correct the path") from None
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not JSON, or truncated ({error}): create it again") from error
    lists = [data] if isinstance(data, list) else [data.get(x) for x in _LISTS] if isinstance(data, dict) else [None]
    if not all(isinstance(x, list) and all(isinstance(y, dict) for y in x) for x in lists):
        raise DataError(
            f"{path} holds no results: give the list that an evaluation writes, such as coco_instances_results.json, "
            "or the predictions.json of centermask-solo predict"
        )
    return data  # type: ignore[no-any-return]


_LISTS = ("images", "annotations", "categories")


def _with_ids_of(path: str, data: Record, annotated: Annotated) -> list[Record]:
    """Return the detections of a file with image and category ids of its own with those of the ground truth."""
    names = dict(zip(annotated.names, annotated.category_ids, strict=True))
    files = {str(x.get("file_name")): x["id"] for x in annotated.records}
    try:
        image_ids = {x["id"]: _find_by_path(x["file_name"], files) for x in data["images"]}
        category_ids = {x["id"]: names.get(x["name"]) for x in data["categories"]}
        found = [
            {**x, "image_id": image_ids[x["image_id"]], "category_id": category_ids[x["category_id"]]}
            for x in data["annotations"]
            if image_ids[x["image_id"]] is not None  # of an image that is not in the ground truth
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is no predictions.json ({type(error).__name__}: {error}): create it again") from error
    if data["images"] and not any(x is not None for x in image_ids.values()):
        raise DataError(f"none of the images of {path} is in the ground truth: give the ground truth of these images")
    for x in data["categories"]:
        if x["name"] not in names:
            raise DataError(f"{path} has the class '{x['name']}', which the ground truth lacks: use the same names")
    return found


def _find_by_path(path: str, files: Mapping[str, int]) -> int | None:
    """Return the id of the file with the longest name that a path ends with; None if there is no such file."""
    parts = path.replace("\\", "/").split("/")
    return next((files[x] for i in range(len(parts)) if (x := "/".join(parts[i:])) in files), None)


class _Checker:
    """Columns of a results file, whose first faulty entry is an error."""

    def __init__(self, path: str, results: Sequence[Record]) -> None:
        self._path, self._results = path, results

    def index(self, key: str, known: Mapping[Any, int]) -> Ints:
        """Return the index of an id of each result."""
        try:
            found = [known.get(x.get(key), -1) for x in self._results]
        except TypeError:  # of a list as id
            found = [known.get(str(x.get(key)), -1) for x in self._results]
        if -1 in found:
            value = self._results[found.index(-1)].get(key)
            raise self._error(
                found.index(-1), f"has the {key} {value!r}, which the ground truth lacks", "give the matching files"
            )
        return np.array(found, dtype=np.int64)

    def scores(self, iou_type: IoUType) -> Floats:
        """Return the scores, those of masks where masks have their own."""
        key = "mask_score" if iou_type == "segm" else "score"
        return self._numbers(lambda x: [x.get(key, x.get("score"))], 1, "score")[:, 0]

    def boxes(self) -> Floats:
        """Return the boxes, x, y, width, height."""
        return self._numbers(lambda x: x.get("bbox"), 4, "bbox")

    def masks(self, images: Ints, records: Sequence[Record]) -> tuple[list[Code], Floats, Floats]:
        """Return the masks, all of which fit their images, with their boxes (N, 4) and areas (N,)."""
        masks = [x.get("segmentation") for x in self._results]
        sizes = [(records[i]["height"], records[i]["width"]) for i in images.tolist()]
        for i, (mask, size) in enumerate(zip(masks, sizes, strict=True)):
            if not isinstance(mask, dict) or not isinstance(mask.get("counts"), str):
                raise self._error(i, "has no mask as compressed run lengths", "create the file again")
            if mask.get("size") != list(size):
                raise self._error(i, f"has a mask of {mask.get('size')}, but its image has {list(size)}", _OTHER_SIZE)
        runs = measure_runs([mask["counts"] for mask in masks], [height for height, _ in sizes])
        pixels = np.array([height * width for height, width in sizes], dtype=np.int64)
        faulty = np.flatnonzero(~runs.decodable | (runs.totals != pixels))
        if len(faulty):
            raise self._error(int(faulty[0]), "has damaged run lengths", "create the file again")
        corners = runs.bounds
        boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        return masks, boxes, runs.areas.astype(np.float64)

    def _numbers(self, get: Callable[[Record], Any], length: int, key: str) -> Floats:
        found = [get(x) for x in self._results]
        for i, x in enumerate(found):
            if not isinstance(x, list) or len(x) != length or not all(map(is_number, x)) or not np.isfinite(x).all():
                raise self._error(i, f"lacks a usable {key}", "create the file again")
        return np.array(found, dtype=np.float64).reshape(-1, length)

    def _error(self, index: int, fault: str, fix: str) -> DataError:
        return DataError(f"{self._path}: result {index} {fault}: {fix}")


_OTHER_SIZE = "predict the images of the ground truth in their original size"
