"""The names of the metrics that an evaluation of a config gives."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from ..modeling.systems import find_system
from .lvis import METRICS as LVIS_METRICS

_COCO = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AP-*")  # the last ones are those of each class
_KEYPOINTS = ("AP", "AP50", "AP75", "APm", "APl")
_PROPOSALS = ("AR*",)  # of Detectron2's ProposalNetwork
_SEMANTIC = ("mIoU", "fwIoU", "mACC", "pACC", "IoU-*", "ACC-*")
_PANOPTIC = tuple(f"{name}{group}" for group in ("", "_th", "_st") for name in ("PQ", "SQ", "RQ"))


def metric_patterns(cfg: CfgNode) -> list[str]:
    """Return the metrics of ``DATASETS.TEST`` as "task/metric", in which * stands for anything.

    They begin with the name of the dataset if there are several.
    """
    names = cfg.DATASETS.TEST
    prefixes = [f"{name}/" if len(names) > 1 else "" for name in names]
    return [
        f"{prefix}{task}/{metric}"
        for prefix, name in zip(prefixes, names, strict=True)
        for task, metrics in _tasks(cfg, name).items()
        for metric in metrics
    ]


def is_metric(name: str, patterns: Sequence[str]) -> bool:
    """Return whether a metric is one of those that :func:`metric_patterns` has returned."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _tasks(cfg: CfgNode, dataset: str) -> dict[str, Sequence[str]]:
    """Return the metrics of a dataset, by task."""
    kind = MetadataCatalog.get(dataset).get("evaluator_type", "coco")
    if kind == "sem_seg":
        return {"sem_seg": _SEMANTIC}
    if kind == "cityscapes_sem_seg":
        return {"sem_seg": ("IoU", "iIoU", "IoU_sup", "iIoU_sup")}
    if kind == "cityscapes_instance":
        return {"segm": ("AP", "AP50")}
    unknown = find_system(cfg.MODEL.META_ARCHITECTURE) is None  # may predict anything
    metrics = LVIS_METRICS if kind == "lvis" else _COCO
    tasks: dict[str, Sequence[str]] = {"bbox": metrics}
    if cfg.MODEL.MASK_ON or unknown:
        tasks["segm"] = metrics
    if kind != "lvis" and (cfg.MODEL.KEYPOINT_ON or unknown):
        tasks["keypoints"] = _KEYPOINTS
    if unknown:
        tasks["box_proposals"] = _PROPOSALS
    return tasks | ({"sem_seg": _SEMANTIC, "panoptic_seg": _PANOPTIC} if kind == "coco_panoptic_seg" else {})
