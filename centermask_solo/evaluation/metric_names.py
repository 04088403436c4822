"""The names of the metrics that an evaluation of a config gives."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from ..data.datasets import class_names
from ..modeling.systems import find_system
from ..utils.class_names import list_names
from ..utils.text import nearest_hint
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
    return [
        f"{prefix_of(cfg, name)}{task}/{metric}"
        for name in cfg.DATASETS.TEST
        for task, metrics in _tasks(cfg, name).items()
        for metric in metrics
    ]


def prefix_of(cfg: CfgNode, dataset: str) -> str:
    """Return what the metrics of a dataset of ``DATASETS.TEST`` begin with."""
    return f"{dataset}/" if len(cfg.DATASETS.TEST) > 1 else ""


def is_metric(name: str, patterns: Sequence[str]) -> bool:
    """Return whether a metric is one of those that :func:`metric_patterns` has returned."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def explain_unknown_class(cfg: CfgNode, metric: str) -> str:
    """Return why evaluations will not have a metric of one class; "" if they will, or it is no such metric."""
    for name in cfg.DATASETS.TEST:
        for task, metrics in _tasks(cfg, name).items():
            for kind in (x[:-1] for x in metrics if x.endswith("-*")):
                of_all = f"{prefix_of(cfg, name)}{task}/"
                if not metric.startswith(of_all + kind):
                    continue
                given = metric.removeprefix(of_all + kind)
                semantic = task == "sem_seg"
                known = MetadataCatalog.get(name).get("stuff_classes") if semantic else class_names(name)
                if known is not None and given not in known:
                    hint = nearest_hint(given, known)
                    return f"'{name}' has no class '{given}'{hint}; its classes are {list_names(known)}"
                if known is not None and len(known) == 1 and not semantic:  # Detectron2 leaves it out
                    return f"'{name}' has only this class: set TEST.KEEP_BEST {of_all}AP"
    return ""


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
