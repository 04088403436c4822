"""Evaluation with LVIS's metrics: AP also by frequency of the classes, on images that are not annotated for all."""

from __future__ import annotations

import itertools
import json
import math
import os
from typing import Any

from detectron2.evaluation import LVISEvaluator
from detectron2.utils.logger import create_small_table

from ..utils.errors import DataError
from ..utils.files import atomic_write
from ..utils.packages import require
from .mask_score import KeepsMaskScores

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf")
MAX_DETECTIONS = 300  # per image, in the official metrics
_FREQUENCIES = ("r", "c", "f")  # rare, common, frequent


class MaskScoreLVISEvaluator(KeepsMaskScores, LVISEvaluator):
    """Detectron2's evaluator, except that mask AP ranks by ``mask_scores`` where the predictions have them.

    Differs from it also where it fails: it works with numpy 2; without any detections, metrics are 0; a metric without
    ground truth is nan, not -100; ids of annotations may be any, where lvis takes an object with id 0 for missed.
    """

    _tasks: Any

    def __init__(self, dataset_name: str, *args: Any, **options: Any) -> None:
        """See ``LVISEvaluator``.

        Raises:
            UserError: The package lvis is not installed.
            DataError: The dataset's json lacks what the metrics need.
        """
        require("lvis", dataset_name)
        super().__init__(dataset_name, *args, **options)
        annotations = self._lvis_api.dataset["annotations"]
        if self._do_evaluation:
            _check_federated(self._lvis_api.dataset, str(self._metadata.json_file))
            for number, annotation in enumerate(annotations, start=1):
                annotation["id"] = number
            self._lvis_api._create_index()

    def _eval_predictions(self, predictions: list[dict[str, Any]]) -> None:
        """Fill ``self._results`` and write ``lvis_instances_results.json``."""
        dataset_ids = self._dataset_ids()
        results = [
            {**x, "category_id": dataset_ids(x["category_id"])}
            for x in itertools.chain(*(p["instances"] for p in predictions))
        ]
        if self._output_dir:
            with atomic_write(os.path.join(self._output_dir, "lvis_instances_results.json")) as file:
                json.dump(results, file)
        if not self._do_evaluation:
            self._logger.info("Annotations are not available for evaluation.")
            return
        if not results:
            self._logger.warning("The model detected nothing in any image, so AP is 0")
        for task in self._tasks or (("bbox", "segm") if self._predicts_masks else ("bbox",)):
            self._results[task] = self._evaluate(task, results)

    def _dataset_ids(self) -> Any:
        """Return the function from the model's class to the dataset's category id."""
        contiguous = self._metadata.get("thing_dataset_id_to_contiguous_id")
        if contiguous is None:
            return lambda x: x + 1  # LVIS's ids are 1, 2, ...
        return {v: k for k, v in contiguous.items()}.__getitem__

    def _evaluate(self, task: str, results: list[dict[str, Any]]) -> dict[str, float]:
        from .lvis_api import evaluate_lvis  # only here, because lvis is optional

        if task == "segm":
            results = [{**x, "score": x.get("mask_score", x["score"])} for x in results]
        limit = self._max_dets_per_image or MAX_DETECTIONS
        found = evaluate_lvis(self._lvis_api, results, task, limit)
        metrics = {x: 100 * found[x] if found[x] >= 0 else math.nan for x in METRICS}
        self._logger.info(
            f"Evaluation results for {task}, up to {limit} detections per image:\n{create_small_table(metrics)}"
        )
        return metrics


def _check_federated(data: dict[str, Any], path: str) -> None:
    """Raise DataError unless a json has what distinguishes LVIS's format from COCO's."""
    for image in data["images"]:
        for key in ("neg_category_ids", "not_exhaustive_category_ids"):
            if not isinstance(image.get(key), list):
                raise DataError(
                    f"{path} is not in LVIS's format, because image {image['id']} lacks the list '{key}': add it, "
                    "or use the file as COCO data, by DATASETS.COCO_JSON"
                )
    for category in data["categories"]:
        if category.get("frequency") not in _FREQUENCIES:
            raise DataError(
                f"{path} is not in LVIS's format, because category {category['id']} lacks a 'frequency' of r, c or f: "
                "add it, or use the file as COCO data, by DATASETS.COCO_JSON"
            )
