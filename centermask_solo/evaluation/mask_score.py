"""A COCO evaluator that ranks masks by their mask scores."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Instances


class MaskScoreCOCOEvaluator(COCOEvaluator):
    """Detectron2's evaluator, except that mask AP ranks by ``mask_scores`` where the predictions have them.

    Box AP ranks by ``scores`` as usual. In ``coco_instances_results.json`` each result has its box score as "score" and
    its mask score, if it has one, as "mask_score". Without mask scores this is Detectron2's evaluator.
    """

    _tasks: Any

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Instances]]) -> None:
        """Store the predictions of a batch; see ``COCOEvaluator.process``."""
        for x, output in zip(inputs, outputs, strict=True):
            super().process([x], [output])
            if "instances" in output and output["instances"].has("mask_scores"):
                scores = output["instances"].mask_scores.tolist()
                for result, score in zip(self._predictions[-1]["instances"], scores, strict=True):
                    result["mask_score"] = score

    def _eval_predictions(self, predictions: list[dict[str, Any]], img_ids: list[int] | None = None) -> None:
        """Fill ``self._results``, masks in a separate pass with their mask scores as scores."""
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
