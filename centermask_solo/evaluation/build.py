"""Choose the evaluator of a dataset."""

from __future__ import annotations

import os

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators
from detectron2.utils.file_io import PathManager

from ..data.datasets import usable_annotations
from ..modeling.option_scope import max_detections
from ..utils.errors import DataError
from ..utils.packages import require
from . import cityscapes
from .backends import AUTO
from .lvis import MAX_DETECTIONS as LVIS_MAX_DETECTIONS
from .lvis import MaskScoreLVISEvaluator
from .mask_score import MaskScoreCOCOEvaluator
from .panoptic import PanopticEvaluator
from .semantic import SemanticEvaluator

COCO_MAX_DETECTIONS = 100  # per image, in the official COCO metrics
_CITYSCAPES = {"cityscapes_instance": cityscapes.InstanceEvaluator, "cityscapes_sem_seg": cityscapes.SemanticEvaluator}
_KINDS = ("coco", "coco_panoptic_seg", "lvis", "sem_seg", *_CITYSCAPES)
_PACKAGES = {"lvis": "lvis", **dict.fromkeys(_CITYSCAPES, cityscapes.PACKAGE)}
_PANOPTIC_FILES = {"panoptic_json": "panoptic annotation file", "panoptic_root": "folder of panoptic images"}


def check_evaluator(dataset_name: str) -> None:
    """Check, without reading its files, that a registered dataset can be evaluated.

    Raises:
        DataError: its ``evaluator_type`` is unknown, or files that its evaluator needs are missing.
        UserError: a package that its evaluator needs is not installed.
    """
    metadata = MetadataCatalog.get(dataset_name)
    kind = metadata.get("evaluator_type", "coco")
    if kind not in _KINDS:
        raise DataError(
            f"the dataset '{dataset_name}' has the evaluator_type '{kind}', which is not one of {', '.join(_KINDS)}"
        )
    if kind in _PACKAGES:
        require(_PACKAGES[kind], dataset_name)
    if kind == "coco_panoptic_seg":
        for key, what in _PANOPTIC_FILES.items():
            path = metadata.get(key)
            if path and not PathManager.exists(path):
                raise DataError(f"the dataset '{dataset_name}' lacks its {what} {path}: see datasets/README.md")


def build_evaluator(cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
    """Return the evaluator for the ``evaluator_type`` of a dataset's metadata.

    * "coco", the default, and "lvis": AP of boxes and masks. They rank masks by their mask scores where the model
      predicts them.
    * "coco_panoptic_seg": AP as for "coco", semantic segmentation, and panoptic quality.
    * "sem_seg": semantic segmentation.
    * "cityscapes_instance" and "cityscapes_sem_seg": the metrics of Cityscapes.

    All detections that ``TEST.DETECTIONS_PER_IMAGE``, or the system's own limit, allows are evaluated, and never fewer
    per image than in the official metrics. Files are written to ``OUTPUT_DIR/inference/<dataset>``.

    Raises:
        DataError: The type is none of these, or the dataset lacks what its type needs.
        UserError: The package that it needs is not installed.
    """
    check_evaluator(dataset_name)
    output_dir = os.path.join(cfg.OUTPUT_DIR, "inference", dataset_name)
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type", "coco")
    limit = max_detections(cfg)
    if kind == "lvis":
        with usable_annotations(dataset_name, masks=cfg.MODEL.MASK_ON):
            return MaskScoreLVISEvaluator(
                dataset_name, output_dir=output_dir, max_dets_per_image=max(LVIS_MAX_DETECTIONS, limit)
            )
    if kind == "sem_seg":
        return SemanticEvaluator(dataset_name, output_dir=output_dir)
    if kind in _CITYSCAPES:
        return _CITYSCAPES[kind](dataset_name)
    # Constructed first, because its error names what a panoptic dataset lacks
    panoptic = [PanopticEvaluator(dataset_name, output_dir)] if kind == "coco_panoptic_seg" else []
    with usable_annotations(dataset_name, masks=cfg.MODEL.MASK_ON):
        coco = MaskScoreCOCOEvaluator(
            dataset_name,
            output_dir=output_dir,
            max_dets_per_image=max(COCO_MAX_DETECTIONS, limit),
            backend=cfg.TEST.get("EVAL_BACKEND", AUTO),  # not an option of Detectron2's own configs
        )
    if not panoptic:
        return coco
    return DatasetEvaluators([coco, SemanticEvaluator(dataset_name, output_dir=output_dir), *panoptic])
