"""The package lvis, made to work with numpy 2 and with a model that detects nothing.

Importing this module needs that package, so :mod:`.lvis` imports it only when it evaluates.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from lvis import LVIS, LVISEval, LVISResults
from pycocotools import mask as rle

from .old_numpy import old_numpy


class _Detections(LVISResults):
    """The detections of a dataset, possibly none."""

    def __init__(self, lvis_gt: LVIS, detections: list[dict[str, Any]]) -> None:
        self.logger = logging.getLogger(__name__)
        self.dataset = {**lvis_gt.dataset, "annotations": detections}
        self._create_index()


class _Evaluation(LVISEval):
    def accumulate(self) -> None:
        with old_numpy("lvis.eval"):  # which uses np.float
            super().accumulate()


def evaluate_lvis(
    lvis_gt: LVIS, detections: Iterable[dict[str, Any]], iou_type: str, max_dets: int
) -> dict[str, float]:
    """Return LVIS's metrics by name, as fractions; -1 for a metric without ground truth.

    Args:
        lvis_gt: Ground truth.
        detections: "image_id", "category_id", "score" and "bbox" (x, y, width, height) or, for "segm", "segmentation"
            (RLE) of each. Not changed.
        iou_type: "bbox" or "segm".
        max_dets: Number of detections with the highest scores that count, per image.
    """
    of_image: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for x in detections:
        of_image[x["image_id"]].append(x)
    best = [x for group in of_image.values() for x in sorted(group, key=lambda y: -y["score"])[:max_dets]]
    # The area decides between small, medium and large: that of the mask for masks
    areas = [float(rle.area(x["segmentation"])) if iou_type == "segm" else x["bbox"][2] * x["bbox"][3] for x in best]
    numbered = [{**x, "id": i, "area": area} for i, (x, area) in enumerate(zip(best, areas, strict=True), start=1)]
    evaluation = _Evaluation(lvis_gt, _Detections(lvis_gt, numbered), iou_type)
    evaluation.params.max_dets = max_dets
    evaluation.run()
    return {name: float(value) for name, value in evaluation.get_results().items()}
