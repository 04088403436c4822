"""Which evaluator judges which dataset."""

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

from .mask_score import MaskScoreCOCOEvaluator

logger = logging.getLogger(__name__)

COCO_MAX_DETECTIONS = 100  # an image, in the official COCO metrics
LVIS_MAX_DETECTIONS = 300  # the same for LVIS


def build_evaluator(cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
    """The evaluator for the ``evaluator_type`` of the dataset's metadata.

    "coco" (the default) is Detectron2's, but masks rank by their mask scores where the model gives them; "lvis" is
    Detectron2's; "coco_panoptic_seg" judges boxes, masks and semantic segmentation, and the panoptic quality where the
    package panopticapi is installed.

    It judges as many detections of an image as ``TEST.DETECTIONS_PER_IMAGE`` lets the model return, and at least the
    number of the official metrics. What it writes goes to ``OUTPUT_DIR/inference/<dataset>``.

    Raises:
        ValueError: the type is another, or the package it needs is not installed.
    """
    output_dir = os.path.join(cfg.OUTPUT_DIR, "inference", dataset_name)
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type", "coco")
    limit = cfg.TEST.DETECTIONS_PER_IMAGE
    if kind in ("coco", "coco_panoptic_seg"):
        coco = MaskScoreCOCOEvaluator(
            dataset_name, output_dir=output_dir, max_dets_per_image=max(COCO_MAX_DETECTIONS, limit)
        )
        if kind == "coco":
            return coco
        evaluators = [coco, SemSegEvaluator(dataset_name, output_dir=output_dir)]
        if importlib.util.find_spec("panopticapi") is not None:
            evaluators.append(COCOPanopticEvaluator(dataset_name, output_dir))
        else:
            logger.warning("The panoptic quality is left out: it needs https://github.com/cocodataset/panopticapi")
        return DatasetEvaluators(evaluators)
    if kind == "lvis":
        if importlib.util.find_spec("lvis") is None:
            raise ValueError(f"the dataset '{dataset_name}' is judged by the package lvis: run 'pip install lvis'")
        return LVISEvaluator(dataset_name, output_dir=output_dir, max_dets_per_image=max(LVIS_MAX_DETECTIONS, limit))
    raise ValueError(
        f"the dataset '{dataset_name}' has the evaluator_type '{kind}', not coco, coco_panoptic_seg or lvis"
    )
