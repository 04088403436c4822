"""The samples of a COCO json, made from packed annotations when they are asked for."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain
from typing import Any, overload

import numpy as np
from detectron2.structures import BoxMode
from numpy.typing import NDArray
from pycocotools import mask as rle

from .formats.coco import CocoData
from .formats.packing import PackedRecords, Record

Sample = dict[str, Any]  # an image with its annotations, in Detectron2's standard format

_KEYS = ("iscrowd", "bbox", "keypoints", "category_id")  # of annotations, that samples have unchanged


class CocoSamples(Sequence[Sample]):
    """What Detectron2's ``load_coco_json`` returns, in the memory of the numbers of the json.

    A list of such dicts takes five times as much, and each process that reads it gets a copy of its own. A sample is
    made anew on each access, so that changing it has no effect.
    """

    def __init__(self, data: CocoData, image_root: str, class_ids: Mapping[int, int]) -> None:
        """
        Args:
            data: A file in which validation found no error and nothing to repair.
            image_root: Folder of the images.
            class_ids: Class of each category id.
        """
        images = image_samples(data, image_root)
        self._images = PackedRecords(images)
        self._annotations, self._class_ids = data.annotations, class_ids
        # The annotations of each image, in the order of the file
        place = {x["image_id"]: i for i, x in enumerate(images)}
        columns = array("q"), array("q"), array("b")
        for x in data.annotations:
            for column, value in zip(
                columns, (place[x["image_id"]], class_ids[x["category_id"]], bool(x.get("iscrowd", 0))), strict=True
            ):
                column.append(value)
        owners, self._classes, self._is_crowd = (np.array(x) for x in columns)
        self._order = owners.argsort(kind="stable")
        self._ends = np.bincount(owners.astype(np.int64), minlength=len(images)).cumsum()
        self._rows: NDArray[np.int64] = np.arange(len(images))

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        sample = self._image(index)
        objects = (self._object(self._annotations[i]) for i in self._of_image(index))
        sample["annotations"] = [x for x in objects if x is not None]
        return sample

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))

    def outlines(self) -> Iterator[Sample]:
        """Yield the samples with annotations of which only ``category_id`` and ``iscrowd`` are there."""
        for i in range(len(self)):
            rows = self._of_image(i)
            pairs = zip(self._classes[rows].tolist(), self._is_crowd[rows].tolist(), strict=True)
            yield self._image(i) | {"annotations": [{"category_id": c, "iscrowd": crowd} for c, crowd in pairs]}

    def with_objects(self) -> CocoSamples:
        """Return the samples that have an object which is no crowd."""
        rows = [i for i in range(len(self)) if not self._is_crowd[self._of_image(i)].all()]
        chosen = object.__new__(type(self))
        chosen.__dict__ = {**vars(self), "_rows": self._rows[rows]}
        return chosen

    def _image(self, index: int) -> Sample:
        return self._images[self._rows[index].item()]

    def _of_image(self, index: int) -> NDArray[np.int64]:
        row = self._rows[index]
        return np.asarray(self._order[self._ends[row - 1] if row else 0 : self._ends[row]])

    def _object(self, x: Record) -> Record | None:
        """Return an annotation in Detectron2's format; None if all its polygons are too short to be one."""
        found = {key: x[key] for key in _KEYS if key in x}
        mask = x.get("segmentation")
        if isinstance(mask, dict) and mask:
            found["segmentation"] = rle.frPyObjects(mask, *mask["size"]) if isinstance(mask["counts"], list) else mask
        elif mask:
            found["segmentation"] = [list(p) for p in mask if len(p) % 2 == 0 and len(p) >= 6]
            if not found["segmentation"]:
                return None
        if found.get("keypoints"):
            # Detectron2 counts pixels from their corners, COCO's keypoints from their centers
            found["keypoints"] = [v if i % 3 == 2 else v + 0.5 for i, v in enumerate(found["keypoints"])]
        return found | {"bbox_mode": BoxMode.XYWH_ABS, "category_id": self._class_ids[x["category_id"]]}


def image_samples(data: CocoData, image_root: str) -> list[Sample]:
    """Return the samples of a file without their annotations, in the order of the image ids."""
    return [
        {
            "file_name": os.path.join(image_root, x["file_name"]),
            "height": x["height"],
            "width": x["width"],
            "image_id": x["id"],
        }
        for x in sorted(data.images, key=lambda x: x["id"])
    ]


class JoinedSamples:
    """The samples of several files, one after the other."""

    def __init__(self, parts: Sequence[CocoSamples]) -> None:
        """
        Args:
            parts: At least one.
        """
        self._parts, self._ends = parts, list(accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Sample:
        part = bisect_right(self._ends, index)
        return self._parts[part][index - (self._ends[part - 1] if part else 0)]

    def outlines(self) -> Iterator[Sample]:
        """See :meth:`CocoSamples.outlines`."""
        return chain.from_iterable(x.outlines() for x in self._parts)


def outlines(dataset: Any) -> Iterable[Sample]:
    """Return the samples of a dataset, if possible without the masks, which take time to make."""
    return dataset.outlines() if isinstance(dataset, (CocoSamples, JoinedSamples)) else dataset
