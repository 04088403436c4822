"""The ground truth of COCO's metrics: packed, and in pycocotools' form as soon as something asks for that."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from pycocotools.coco import COCO

from ..data.formats.coco import NotAnnotatedError
from ..data.validation.gate import read_once
from ..utils.memory import without_garbage_collection

_INDEX = frozenset({"anns", "cats", "imgs", "imgToAnns", "catToImgs"})


class GroundTruth(COCO):
    """pycocotools' ``COCO``, of which the dicts and their index appear when they are first read.

    They take several times the memory of the packed annotations, and not every evaluation needs them. Annotations are
    numbered from 1, because pycocotools stores the id of a match and 0 for none. Polygons are arrays, which take a
    quarter of the memory of lists.
    """

    def __init__(self, dataset: dict[str, Any]) -> None:
        """
        Args:
            dataset: Lists of "images", "annotations", which may be packed, and "categories".
        """
        self.dataset = dataset  # not through the base class, which reads a file

    def __getattr__(self, name: str) -> Any:
        if name not in _INDEX:
            raise AttributeError(name)
        self._unpack()
        return self.__dict__[name]

    def annotations(self) -> Iterator[dict[str, Any]]:
        """Return an iterator over the annotations with their numbers as ids."""
        return ({**x, "id": number} for number, x in enumerate(self.dataset["annotations"], start=1))

    @without_garbage_collection()
    def _unpack(self) -> None:
        annotations = [{sys.intern(key): value for key, value in x.items()} for x in self.annotations()]
        self.dataset = {**self.dataset, "annotations": annotations}
        with contextlib.redirect_stdout(io.StringIO()):
            self.createIndex()


def read_ground_truth(path: str) -> COCO:
    """Return the content of a json as :class:`GroundTruth`, or as it is if it has no annotations."""
    try:
        data = read_once(path)
    except NotAnnotatedError:
        return COCO(path)
    return GroundTruth({"images": data.images, "annotations": data.annotations, "categories": data.categories})


def with_results(ground_truth: COCO, results: Sequence[dict[str, Any]], iou_type: str) -> COCO:
    """Return detections in pycocotools' form.

    Args:
        ground_truth: That of their images.
        results: As in COCO's format, of this type; not changed.
        iou_type: "bbox" or "segm".
    """
    # Of masks without their boxes, because pycocotools would take the area of an instance from its box; as copies,
    # because it adds fields
    copies = [{k: v for k, v in x.items() if k != "bbox" or iou_type != "segm"} for x in results]
    with contextlib.redirect_stdout(io.StringIO()):
        return ground_truth.loadRes(copies)
