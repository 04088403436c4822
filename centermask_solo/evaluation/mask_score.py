"""A COCO evaluator that ranks masks by their mask scores."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

from detectron2.evaluation import COCOEvaluator, coco_evaluation
from detectron2.structures import Instances
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..structures.mask_formats import add_codes, packed, without_masks
from ..utils.threads import Behind, threads_beside
from .backends import AUTO, evaluate_coco, find_backend
from .ground_truth import read_ground_truth

_OF_DETECTRON2 = coco_evaluation._evaluate_predictions_on_coco


class KeepsMaskScores:
    """What evaluators of masks share: each result of a prediction keeps its mask score.

    A mixin in front of one of Detectron2's evaluators, which collects the results.
    """

    _predictions: Any
    _tasks: Any
    _predicts_masks = False
    _encoder: Behind | None = None

    def reset(self) -> None:
        """Forget all predictions."""
        super().reset()  # type: ignore[misc]
        self._predicts_masks = False
        self._encoder = None

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Instances]]) -> None:
        """Store the predictions of a batch, whose masks, of any form, are encoded in a thread meanwhile.

        See ``DatasetEvaluator.process``.
        """
        for x, output in zip(inputs, outputs, strict=True):
            if "instances" not in output:
                super().process([x], [output])  # type: ignore[misc]
                continue
            instances = output["instances"]
            super().process([x], [{**output, "instances": without_masks(instances)}])  # type: ignore[misc]
            results = self._predictions[-1]["instances"]
            add_mask_scores(results, instances)
            if instances.has("pred_masks"):
                self._predicts_masks = True
                if self._encoder is None:
                    threads = threads_beside(instances.scores.device.type)
                    self._encoder = Behind(threads, limit=2 * threads)
                self._encoder.call(add_codes, results, packed(instances.pred_masks))

    def take(self, predictions: Sequence[dict[str, Any]], tasks: Sequence[str]) -> None:
        """Store what was predicted before: "image_id" and "instances", results in COCO's format, of each image.

        Args:
            predictions: Their categories are classes of the model.
            tasks: "bbox", "segm" or both.
        """
        self._predictions.extend(predictions)
        self._tasks = tuple(tasks)
        self._predicts_masks = "segm" in tasks

    def evaluate(self, *args: Any, **options: Any) -> Any:
        """Return the metrics; see ``DatasetEvaluator.evaluate``."""
        encoder, self._encoder = self._encoder, None
        if encoder is not None:
            encoder.close()
        return super().evaluate(*args, **options)  # type: ignore[misc]


class MaskScoreCOCOEvaluator(KeepsMaskScores, COCOEvaluator):
    """Detectron2's evaluator, except that mask AP ranks by ``mask_scores`` where the predictions have them.

    Box AP ranks by ``scores`` as usual. In ``coco_instances_results.json`` each result has its box score as "score" and
    its mask score, if it has one, as "mask_score". Without mask scores this is Detectron2's evaluator.

    Differs from it also where it fails: without any detections, metrics are 0 instead of nan, except those for which
    there is no ground truth; ids of annotations may be any, where pycocotools takes an object with id 0 for missed.
    """

    _tasks: Any

    def __init__(self, *args: Any, backend: str = AUTO, use_fast_impl: bool = True, **options: Any) -> None:
        """
        Args:
            args: See ``COCOEvaluator``.
            backend: What computes the metrics of boxes and masks: see ``TEST.EVAL_BACKEND``.
            use_fast_impl: False for pycocotools, whatever the backend, as in ``COCOEvaluator``.
            options: See ``COCOEvaluator``.

        Raises:
            ConfigError: There is no such backend.
            MissingPackageError: Its package is not installed.
        """
        self._backend = find_backend(backend if use_fast_impl else "pycocotools")
        with patch.object(coco_evaluation, "COCO", read_ground_truth):
            super().__init__(*args, use_fast_impl=False, **options)
        self._use_fast_impl = self._backend != "pycocotools"  # which the log states
        self._img_ids: list[int] | None = None

    def _eval_predictions(self, predictions: list[dict[str, Any]], img_ids: list[int] | None = None) -> None:
        """Fill ``self._results``, masks in a separate pass with their mask scores as scores."""
        self._img_ids = img_ids
        with patch.object(coco_evaluation, "_evaluate_predictions_on_coco", self._evaluate_by_backend):
            self._eval_boxes_and_masks(predictions, img_ids)

    def _eval_boxes_and_masks(self, predictions: list[dict[str, Any]], img_ids: list[int] | None) -> None:
        results = list(itertools.chain(*(x["instances"] for x in predictions)))
        tasks = self._tasks or self._tasks_from_predictions(results)
        if "segm" not in tasks or not any("mask_score" in x for x in results):
            super()._eval_predictions(predictions, img_ids)
            return
        # Copies, because Detectron2 renumbers the classes in place
        by_mask = [{"instances": [{**r, "score": r["mask_score"]} for r in x["instances"]]} for x in predictions]
        given_tasks, others = self._tasks, [x for x in tasks if x != "segm"]
        try:
            self._tasks = ["segm"]
            super()._eval_predictions(by_mask, img_ids)
            if others:
                self._tasks = others
                super()._eval_predictions(predictions, img_ids)
                self._results.move_to_end("segm")
        finally:
            self._tasks = given_tasks

    def _evaluate_by_backend(
        self,
        coco_gt: COCO,
        coco_results: list[dict[str, Any]],
        iou_type: str,
        *,
        cocoeval_fn: type[COCOeval],
        img_ids: list[int] | None,
        max_dets_per_image: list[int],
        **options: Any,
    ) -> COCOeval:
        """Return what Detectron2's function of these arguments returns; keypoints are left to that function."""
        if iou_type != "keypoints":
            return evaluate_coco(self._backend, coco_gt, coco_results, iou_type, max_dets_per_image, img_ids)
        options |= {"img_ids": img_ids, "max_dets_per_image": max_dets_per_image}
        return _OF_DETECTRON2(coco_gt, coco_results, iou_type, cocoeval_fn=COCOeval, **options)

    def _tasks_from_predictions(self, predictions: list[dict[str, Any]]) -> list[str]:
        """Return the tasks that results show, and "segm" if the model has masks but detected nothing."""
        tasks = set(super()._tasks_from_predictions(predictions))
        return sorted(tasks | {"segm"} if self._predicts_masks else tasks)

    def _derive_coco_results(
        self, coco_eval: COCOeval | None, iou_type: str, class_names: list[str] | None = None
    ) -> dict[str, float]:
        """Return the metrics of a task; ``coco_eval`` is None if there are no detections."""
        if coco_eval is None:
            self._logger.warning(f"The model detected nothing in any image, so {iou_type} AP is 0")
            coco_eval = self._evaluate_nothing(iou_type)
        return super()._derive_coco_results(coco_eval, iou_type, class_names)

    def _evaluate_nothing(self, iou_type: str) -> COCOeval:
        """Return the evaluation of no detections: 0 where there is ground truth, else -1."""
        detections = COCO()
        detections.dataset = {**self._coco_api.dataset, "annotations": []}
        with contextlib.redirect_stdout(io.StringIO()):
            detections.createIndex()
            coco_eval = COCOeval(self._coco_api, detections, iou_type)
            if self._img_ids is not None:
                coco_eval.params.imgIds = self._img_ids
            coco_eval.evaluate()
            coco_eval.accumulate()
            coco_eval.summarize()
        return coco_eval


def add_mask_scores(results: list[dict[str, Any]], instances: Instances) -> None:
    """Store the mask scores of an image's detections, if they have any, as "mask_score" of its COCO results."""
    if instances.has("mask_scores"):
        for result, score in zip(results, instances.mask_scores.tolist(), strict=True):
            result["mask_score"] = score
