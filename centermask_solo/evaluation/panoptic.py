"""Evaluation of panoptic segmentation."""

from __future__ import annotations

import itertools
import json
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from detectron2.utils.logger import create_small_table
from numpy.typing import NDArray

from ..data.formats.panoptic import VOID, read_panoptic_json, read_segment_ids, write_segment_ids
from ..utils.errors import DataError
from ..utils.files import atomic_write
from .panoptic_quality import PanopticCounts, match_segments

logger = logging.getLogger(__name__)

_METADATA = (
    *("panoptic_json", "panoptic_root"),
    *("thing_dataset_id_to_contiguous_id", "stuff_dataset_id_to_contiguous_id"),
)
Segments = list[dict[str, Any]]  # "id" and "category_id" of each


class PanopticEvaluator(DatasetEvaluator):
    """Panoptic quality of a dataset in COCO's panoptic format, with input and results of ``COCOPanopticEvaluator``.

    The latter needs the package panopticapi; this one does not, and gives the same figures. An image without a
    prediction counts as one where every segment is missed.
    """

    def __init__(self, dataset_name: str, output_dir: str | None = None) -> None:
        """
        Args:
            dataset_name: Registered dataset with ``panoptic_json``, ``panoptic_root`` and the mappings of category ids
                in its metadata.
            output_dir: Folder of ``predictions.json`` and ``predictions/*.png``, in COCO's format; None writes none.

        Raises:
            DataError: The metadata or the json are incomplete.
        """
        self._metadata = MetadataCatalog.get(dataset_name)
        for key in _METADATA:
            if self._metadata.get(key) is None:
                raise DataError(
                    f"the dataset '{dataset_name}' has the evaluator_type coco_panoptic_seg but lacks {key} in its "
                    "metadata: register it with Detectron2's register_coco_panoptic_separated"
                )
        self._things = {v: k for k, v in self._metadata.thing_dataset_id_to_contiguous_id.items()}
        self._stuff = {v: k for k, v in self._metadata.stuff_dataset_id_to_contiguous_id.items()}
        data = read_panoptic_json(self._metadata.panoptic_json)
        self._images, self._is_thing = {x.image_id: x for x in data.images}, data.is_thing
        self._output_dir = output_dir
        self.reset()

    def reset(self) -> None:
        """Forget all predictions."""
        self._counts = PanopticCounts()
        self._predictions: list[dict[str, Any]] = []

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Match the segments of a batch with the ground truth.

        Args:
            inputs: With "image_id" each.
            outputs: "panoptic_seg" of each: segment ids (H, W) and their "segments_info". If that is None, the ids are
                ``category * label_divisor + instance``, and -1 for void.

        Raises:
            DataError: The ground truth of an image is missing, damaged or of another size.
        """
        for x, output in zip(inputs, outputs, strict=True):
            gt = self._images.get(x["image_id"])
            if gt is None:
                raise DataError(f"{self._metadata.panoptic_json} has no annotation of the image {x['image_id']}")
            ids, segments = output["panoptic_seg"]
            ids = ids.cpu().numpy().astype(np.int64)
            if segments is None:
                ids, segments = _split_ids(ids, self._metadata.label_divisor, self._things)
            segments = [self._with_dataset_id(s) for s in segments]
            path = os.path.join(self._metadata.panoptic_root, gt.file_name)
            gt_ids = read_segment_ids(path, gt)
            if gt_ids.shape != ids.shape:
                raise DataError(
                    f"the panoptic image {path} has {gt_ids.shape[1]}x{gt_ids.shape[0]} pixels, but its image has "
                    f"{ids.shape[1]}x{ids.shape[0]} (width x height): replace it"
                )
            categories = {s["id"]: s["category_id"] for s in segments}
            self._counts += match_segments(gt_ids, gt.categories, gt.crowds, ids, categories)
            self._store(ids, {"image_id": gt.image_id, "file_name": gt.file_name, "segments_info": segments})

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """Return PQ, SQ and RQ of all categories, of things ("_th") and of stuff ("_st"), in percent.

        They are nan if no such category occurs. Other processes than the main one return None.
        """
        comm.synchronize()
        gathered = comm.gather((self._counts, self._predictions))
        if not comm.is_main_process():
            return None
        counts = PanopticCounts()
        for x, _ in gathered:
            counts += x
        predictions = list(itertools.chain(*(x for _, x in gathered)))
        predicted = {x["image_id"] for x in predictions}
        for image in self._images.values():
            if image.image_id not in predicted:
                counts.missed.update(c for g, c in image.categories.items() if g not in image.crowds)
        if self._output_dir:
            with atomic_write(os.path.join(self._output_dir, "predictions.json")) as file:
                json.dump({"annotations": predictions}, file)
        results = counts.qualities(self._is_thing)
        logger.info(f"Panoptic quality:\n{create_small_table(results)}")
        return {"panoptic_seg": results}

    def _with_dataset_id(self, segment: Mapping[str, Any]) -> dict[str, Any]:
        """Return a segment with the dataset's category id; without "isthing" it already has that."""
        segment = dict(segment)
        is_thing = segment.pop("isthing", None)
        if is_thing is not None:
            segment["category_id"] = (self._things if is_thing else self._stuff)[segment["category_id"]]
        return segment

    def _store(self, ids: NDArray[np.int64], prediction: dict[str, Any]) -> None:
        self._predictions.append(prediction)
        if self._output_dir:
            known = np.isin(ids, [x["id"] for x in prediction["segments_info"]])
            path = os.path.join(self._output_dir, "predictions", prediction["file_name"])
            with atomic_write(path, "wb", durable=False) as file:
                write_segment_ids(np.where(known, ids, VOID), file)


def _split_ids(ids: NDArray[np.int64], label_divisor: int, things: Mapping[int, int]) -> tuple[NDArray[Any], Segments]:
    """Return ids and segments from ``category * label_divisor + instance``, or -1 for void, which becomes 0."""
    segments = [
        {"id": x + 1, "category_id": x // label_divisor, "isthing": x // label_divisor in things}
        for x in np.unique(ids).tolist()
        if x != -1
    ]
    return ids + 1, segments
