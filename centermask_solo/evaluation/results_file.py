"""Results files: detections in COCO's format, checked before anything is computed from them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from ..data.validation.geometry import is_number, measure_runs
from ..structures.rle_codes import Code
from ..utils.errors import DataError
from ..utils.memory import without_garbage_collection
from ..utils.reading import read_text, reading

Record = dict[str, Any]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

logger = logging.getLogger(__name__)

_MASKS_AT_ONCE = 10_000  # whose run lengths are measured together, in some 100 MiB
_LISTS = ("images", "annotations", "categories")  # of predictions.json


class Results:
    """The detections of a results file.

    Attributes:
        path: The file.
        records: The detections as the file has them, with the image and category ids of the ground truth.
        images: (N,) index of the image of each.
        classes: (N,) index of the class of each.
    """

    def __init__(self, path: str, records: list[Record], images: Sequence[Record], category_ids: Sequence[Any]) -> None:
        """
        Args:
            path: The file, for messages.
            records: Its content.
            images: The images of the ground truth.
            category_ids: The category id of each class.

        Raises:
            DataError: A detection is of another image or class.
        """
        self.path, self.records = path, records
        self.images = self._index("image_id", {x["id"]: i for i, x in enumerate(images)})
        self.classes = self._index("category_id", {x: i for i, x in enumerate(category_ids)})
        self._sizes = [(images[i]["height"], images[i]["width"]) for i in self.images.tolist()]

    @property
    def has_masks(self) -> bool:
        """Whether all detections have masks, and there are any."""
        return bool(self.records) and all("segmentation" in x for x in self.records)

    @property
    def has_boxes(self) -> bool:
        """Whether all detections have boxes, and there are any."""
        return bool(self.records) and all("bbox" in x for x in self.records)

    def scores(self, key: str = "score") -> Floats:
        """Return the scores, of a kind if the detections have it, such as "mask_score".

        Raises:
            DataError: A score is missing or no number.
        """
        return self._numbers(lambda x: [x.get(key, x.get("score"))], 1, "score")[:, 0]

    def boxes(self) -> Floats:
        """Return (N, 4) x, y, width, height.

        Raises:
            DataError: A box is missing or not four numbers.
        """
        return self._numbers(lambda x: x.get("bbox"), 4, "bbox")

    def masks(self) -> tuple[list[Code], Floats, Floats]:
        """Return the masks, with their boxes (N, 4) and areas (N,).

        Raises:
            DataError: A mask is missing, damaged, or not of the size of its image.
        """
        masks: list[Any] = [x.get("segmentation") for x in self.records]
        for i, (mask, size) in enumerate(zip(masks, self._sizes, strict=True)):
            if not isinstance(mask, dict) or not isinstance(mask.get("counts"), str):
                raise self._error(i, "has no mask as compressed run lengths", "create the file again")
            if mask.get("size") != list(size):
                fault = f"has a mask of size {mask.get('size')}, but its image has {list(size)} (height, width)"
                raise self._error(i, fault, "predict the images of the ground truth in their original size")
        corners, areas = np.zeros((len(masks), 4)), np.zeros(len(masks))
        for start in range(0, len(masks), _MASKS_AT_ONCE):
            some = slice(start, start + _MASKS_AT_ONCE)
            heights, widths = zip(*self._sizes[some], strict=True)
            runs = measure_runs([mask["counts"] for mask in masks[some]], heights)
            faulty = np.flatnonzero(~runs.decodable | (runs.totals != np.multiply(heights, widths)))
            if len(faulty):
                raise self._error(start + int(faulty[0]), "has damaged run lengths", "create the file again")
            corners[some], areas[some] = runs.bounds, runs.areas
        return masks, np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1), areas

    def _index(self, key: str, known: Mapping[Any, int]) -> Ints:
        try:
            found = [known.get(x.get(key), -1) for x in self.records]
        except TypeError:  # of a list or a dict as id
            found = [known.get(x.get(key), -1) if isinstance(x.get(key), int | str) else -1 for x in self.records]
        if -1 in found:
            value = self.records[found.index(-1)].get(key)
            fault = f"has the {key} {value!r}, which the ground truth lacks"
            raise self._error(found.index(-1), fault, "give the ground truth of these images")
        return np.array(found, dtype=np.int64)

    def _numbers(self, get: Callable[[Record], Any], length: int, key: str) -> Floats:
        found = [get(x) for x in self.records]
        for i, x in enumerate(found):
            if not isinstance(x, list) or len(x) != length or not all(map(is_number, x)) or not np.isfinite(x).all():
                raise self._error(i, f"lacks a usable {key}", "create the file again")
        return np.array(found, dtype=np.float64).reshape(-1, length)

    def _error(self, index: int, fault: str, fix: str) -> DataError:
        return DataError(f"{self.path}: result {index} {fault}: {fix}")


def read_results(path: str, images: Sequence[Record], categories: Mapping[str, Any]) -> Results:
    """Return the detections of a results file.

    Args:
        path: A list in COCO's format for results, such as ``coco_instances_results.json``, or the
            ``predictions.json`` of ``centermask-solo predict``, whose images and classes are found by name.
        images: The images of the ground truth, each with "id", "file_name", "height" and "width".
        categories: Category id of each class by its name, in the order of the classes.

    Raises:
        DataError: The file is missing, is not in such a format, or is of other images or classes.
    """
    return parse_results(path, read_json(path), images, categories)


def parse_results(path: str, data: Any, images: Sequence[Record], categories: Mapping[str, Any]) -> Results:
    """Return the detections in the content of a results file; see :func:`read_results`."""
    lists = [data] if isinstance(data, list) else [data.get(x) for x in _LISTS] if isinstance(data, dict) else [None]
    if not all(isinstance(x, list) and all(isinstance(y, dict) for y in x) for x in lists):
        raise DataError(
            f"{path} holds no results: give the list that an evaluation writes, such as coco_instances_results.json, "
            "or the predictions.json of centermask-solo predict"
        )
    records = _with_ids_of(path, data, images, categories) if isinstance(data, dict) else data
    return Results(path, records, images, list(categories.values()))


def read_json(path: str) -> Any:
    """Return the content of a results file.

    Raises:
        DataError: It is missing or not JSON.
    """
    try:
        with reading(path), without_garbage_collection():
            return json.loads(read_text(path))
    except FileNotFoundError:
        raise DataError(f"the results file {path} is missing: correct the path") from None
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not JSON, or truncated ({error}): create it again") from error


def _with_ids_of(path: str, data: Record, images: Sequence[Record], categories: Mapping[str, Any]) -> list[Record]:
    """Return the detections of a file with image and category ids of its own with those of the ground truth."""
    files = {str(x.get("file_name")): x["id"] for x in images}
    try:
        image_ids = {x["id"]: _find_by_path(x["file_name"], files) for x in data["images"]}
        sizes = {x["id"]: (x.get("height"), x.get("width")) for x in data["images"]}
        names = {x["id"]: x["name"] for x in data["categories"]}
        unknown = next((x for x in names.values() if x not in categories), None)
        found = [
            {
                **_with_code(x, sizes[x["image_id"]]),
                "image_id": image_ids[x["image_id"]],
                "category_id": categories.get(names[x["category_id"]]),
            }
            for x in data["annotations"]
            if image_ids[x["image_id"]] is not None  # of an image that is not in the ground truth
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is no predictions.json ({type(error).__name__}: {error}): create it again") from error
    if data["images"] and all(x is None for x in image_ids.values()):
        raise DataError(f"none of the images of {path} is in the ground truth: give the ground truth of these images")
    lacking = len(images) - len({*image_ids.values()} - {None})
    if lacking:
        logger.warning(
            "%s has no predictions of %d of the %d images of the ground truth: their objects count as missed",
            *(path, lacking, len(images)),
        )
    if unknown is not None:
        raise DataError(f"{path} has the class '{unknown}', which the ground truth lacks: use the same names")
    return found


def _with_code(record: Record, size: tuple[Any, Any]) -> Record:
    """Return a detection with a code in place of polygons, as ``predict --polygons`` writes them; wrong ones remain."""
    polygons = record.get("segmentation")
    if not isinstance(polygons, list) or not polygons or not all(isinstance(n, int) and n > 0 for n in size):
        return record
    if not all(isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0 and all(map(is_number, p)) for p in polygons):
        return record
    code = rle.merge(rle.frPyObjects(polygons, *size))
    return record | {"segmentation": {"size": list(size), "counts": code["counts"].decode("ascii")}}


def _find_by_path(path: str, files: Mapping[str, Any]) -> Any:
    """Return the id of the file with the longest name that a path ends with; None if there is no such file."""
    parts = path.replace("\\", "/").split("/")
    return next((files[x] for i in range(len(parts)) if (x := "/".join(parts[i:])) in files), None)
