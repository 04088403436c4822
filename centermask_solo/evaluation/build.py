"""Choose the evaluator of a dataset."""

from __future__ import annotations

import importlib.util
import logging
import os

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import (
    COCOPanopticEvaluator,
    DatasetEvaluator,
    DatasetEvaluators,
    LVISEvaluator,
    SemSegEvaluator,
)

from ..data.datasets import usable_annotations
from ..utils.errors import DataError, UserError
from .mask_score import MaskScoreCOCOEvaluator

logger = logging.getLogger(__name__)

COCO_MAX_DETECTIONS = 100  # per image, in the official COCO metrics
LVIS_MAX_DETECTIONS = 300  # per image, in the official LVIS metrics


def build_evaluator(cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
    """Return the evaluator for the ``evaluator_type`` of a dataset's metadata.

    "coco", the default, is Detectron2's, but ranks masks by their mask scores where the model predicts them; "lvis" is
    Detectron2's; "coco_panoptic_seg" evaluates boxes, masks and semantic segmentation, and the panoptic quality if the
    package panopticapi is installed.

    All detections that ``TEST.DETECTIONS_PER_IMAGE`` allows are evaluated, and at least as many per image as in the
    official metrics. Files are written to ``OUTPUT_DIR/inference/<dataset>``.

    Raises:
        DataError: the type is another.
        UserError: the package that it needs is not installed.
    """
    output_dir = os.path.join(cfg.OUTPUT_DIR, "inference", dataset_name)
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type", "coco")
    limit = cfg.TEST.DETECTIONS_PER_IMAGE
    if kind in ("coco", "coco_panoptic_seg"):
        with usable_annotations(dataset_name, masks=cfg.MODEL.MASK_ON):
            coco = MaskScoreCOCOEvaluator(
                dataset_name, output_dir=output_dir, max_dets_per_image=max(COCO_MAX_DETECTIONS, limit)
            )
        if kind == "coco":
            return coco
        evaluators = [coco, SemSegEvaluator(dataset_name, output_dir=output_dir)]
        if importlib.util.find_spec("panopticapi") is not None:
            evaluators.append(COCOPanopticEvaluator(dataset_name, output_dir))
        else:
            logger.warning("Skipping the panoptic quality, which needs https://github.com/cocodataset/panopticapi")
        return DatasetEvaluators(evaluators)
    if kind == "lvis":
        if importlib.util.find_spec("lvis") is None:
            raise UserError(
                f"the dataset '{dataset_name}' needs the package lvis for evaluation: run 'pip install lvis'"
            )
        return LVISEvaluator(dataset_name, output_dir=output_dir, max_dets_per_image=max(LVIS_MAX_DETECTIONS, limit))
    raise DataError(
        f"the dataset '{dataset_name}' has the evaluator_type '{kind}': use coco, coco_panoptic_seg or lvis"
    )
