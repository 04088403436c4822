"""A COCO evaluator that ranks masks by their mask scores."""

from __future__ import annotations

import contextlib
import io
import itertools
import sys
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

from detectron2.evaluation import COCOEvaluator, coco_evaluation
from detectron2.structures import Instances
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..data.formats.coco import NotAnnotatedError
from ..data.validation.gate import read_once
from ..structures.mask_formats import add_codes, packed, without_masks
from ..utils.memory import without_garbage_collection
from ..utils.threads import Behind, threads_beside


class KeepsMaskScores:
    """What evaluators of masks share: each result of a prediction keeps its mask score.

    A mixin in front of one of Detectron2's evaluators, which collects the results.
    """

    _predictions: Any
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

    def __init__(self, *args: Any, **options: Any) -> None:
        """See ``COCOEvaluator``."""
        with patch.object(coco_evaluation, "COCO", _read_ground_truth):
            super().__init__(*args, **options)
        self._img_ids: list[int] | None = None
        if self._do_evaluation:
            _renumber(self._coco_api)

    def _eval_predictions(self, predictions: list[dict[str, Any]], img_ids: list[int] | None = None) -> None:
        """Fill ``self._results``, masks in a separate pass with their mask scores as scores."""
        self._img_ids = img_ids
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


@without_garbage_collection()
def _read_ground_truth(path: str) -> COCO:
    """Return a json as pycocotools reads it, with polygons as arrays, which take a quarter of the memory of lists."""
    try:
        data = read_once(path)
    except NotAnnotatedError:
        return COCO(path)
    coco = COCO()
    annotations = [{sys.intern(key): value for key, value in x.items()} for x in data.annotations]
    coco.dataset = {"images": data.images, "annotations": annotations, "categories": data.categories}
    coco.createIndex()
    return coco


def _renumber(coco: COCO) -> None:
    """Number the annotations from 1, because pycocotools stores the id of a match and 0 for none."""
    for number, annotation in enumerate(coco.dataset["annotations"], start=1):
        annotation["id"] = number
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
