"""Options under the names of AdelaiDet (SOLOv2), of CenterMask2, and of earlier versions of this package.

A renamed option is an error that names the new one; an option without effect is ignored, with a line in the log.
:mod:`.conversion` rewrites files of such options.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from detectron2.config import CfgNode


@dataclass(frozen=True)
class OldName:
    """What became of an option.

    Attributes:
        new: Name of the option today; None if it is ignored.
        note: Why it is ignored, or how its values differ from those of the new one.
        translate: Function from an old value to a new one; None if they are the same.
    """

    new: str | None
    note: str = ""
    translate: Callable[[Any], Any] | None = None


def _renamed(prefix: str, names: dict[str, str]) -> dict[str, OldName]:
    return {prefix + old: OldName(prefix + new) for old, new in names.items()}


def _ignored(prefix: str, names: dict[str, str]) -> dict[str, OldName]:
    return {prefix + old: OldName(None, reason) for old, reason in names.items()}


def _choice(names: dict[Any, Any]) -> Callable[[Any], Any]:
    """Return a function that looks up a value, and passes on values that are not in the table."""
    return lambda value: names.get(value, value)


_ADELAIDET = {
    **_renamed(
        "MODEL.SOLOV2.",
        {
            "INSTANCE_IN_FEATURES": "IN_FEATURES",
            "FPN_INSTANCE_STRIDES": "STRIDES",
            "FPN_SCALE_RANGES": "SCALE_RANGES",
            "NUM_KERNELS": "NUM_MASKS",
            "LOSS.FOCAL_WEIGHT": "LOSS.CLASS_WEIGHT",
            "LOSS.DICE_WEIGHT": "LOSS.MASK_WEIGHT",
            "SCORE_THR": "SCORE_THRESH_TEST",
            "NMS_PRE": "PRE_NMS_TOPK_TEST",
            "MASK_THR": "MASK_THRESH_TEST",
            "UPDATE_THR": "NMS.SCORE_THRESH",
            "NMS_KERNEL": "NMS.KERNEL",
            "NMS_SIGMA": "NMS.SIGMA",
        },
    ),
    "MODEL.SOLOV2.MAX_PER_IMG": OldName("TEST.DETECTIONS_PER_IMAGE"),
    "MODEL.SOLOV2.NMS_TYPE": OldName(
        "MODEL.SOLOV2.NMS.NAME",
        '"matrix" is "MatrixNMS"; "mask" is "MaskNMS", whose IoU threshold is NMS.IOU_THRESH and not MASK_THR',
        _choice({"matrix": "MatrixNMS", "mask": "MaskNMS"}),
    ),
    "MODEL.SOLOV2.USE_DCN_IN_INSTANCE": OldName(
        "MODEL.SOLOV2.DEFORM_IN_INSTANCE",
        'AdelaiDet ignores it, so both values become "none"; "all" makes the towers deformable',
        _choice({True: "none", False: "none"}),
    ),
    "MODEL.SOLOV2.TYPE_DCN": OldName(
        "MODEL.SOLOV2.DEFORM_MODULATED", '"DCN" is False, "DCNv2" is True', _choice({"DCN": False, "DCNv2": True})
    ),
    **_ignored(
        "MODEL.SOLOV2.",
        {
            "INSTANCE_IN_CHANNELS": "the backbone determines it",
            "MASK_IN_CHANNELS": "the backbone determines it",
            "USE_COORD_CONV": "coordinates are always appended",
            "LOSS.FOCAL_USE_SIGMOID": "the class loss always uses sigmoids",
        },
    ),
}

_CENTERMASK2 = {
    **_renamed(
        "MODEL.FCOS.",
        {
            "NUM_CLS_CONVS": "NUM_CLASS_CONVS",
            "NUM_SHARE_CONVS": "NUM_SHARED_CONVS",
            "LOSS_ALPHA": "LOSS.FOCAL_ALPHA",
            "LOSS_GAMMA": "LOSS.FOCAL_GAMMA",
            "LOC_LOSS_TYPE": "LOSS.BOX_TYPE",
            "INFERENCE_TH_TRAIN": "SCORE_THRESH_TRAIN",
            "INFERENCE_TH_TEST": "SCORE_THRESH_TEST",
            "THRESH_WITH_CTR": "THRESH_WITH_CENTERNESS",
            "NMS_TH": "NMS.IOU_THRESH",
        },
    ),
    **_renamed(
        "MODEL.VOVNET.",
        {
            "STAGE_WITH_DCN": "DEFORM_ON_PER_STAGE",
            "WITH_MODULATED_DCN": "DEFORM_MODULATED",
            "DEFORMABLE_GROUPS": "DEFORM_NUM_GROUPS",
        },
    ),
    "MODEL.MASKIOU_ON": OldName("MODEL.CENTERMASK.MASK_IOU.ENABLED"),
    "MODEL.MASKIOU_LOSS_WEIGHT": OldName("MODEL.CENTERMASK.LOSS.MASK_IOU_WEIGHT"),
    "MODEL.ROI_MASKIOU_HEAD": OldName("MODEL.CENTERMASK.MASK_IOU"),
    "MODEL.ROI_MASKIOU_HEAD.CONV_DIM": OldName("MODEL.CENTERMASK.MASK_IOU.CONV_DIM"),
    "MODEL.ROI_MASKIOU_HEAD.NUM_CONV": OldName("MODEL.CENTERMASK.MASK_IOU.NUM_CONVS"),
    "MODEL.ROI_MASK_HEAD.ASSIGN_CRITERION": OldName("MODEL.ROI_MASK_HEAD.LEVEL_ASSIGNMENT"),
    "MODEL.ROI_KEYPOINT_HEAD.ASSIGN_CRITERION": OldName("MODEL.ROI_KEYPOINT_HEAD.LEVEL_ASSIGNMENT"),
    **_ignored(
        "MODEL.",
        {
            "MOBILENET": "MODEL.BACKBONE.NAME selects the backbone",
            "FCOS.FPN_STRIDES": "the backbone determines them",
            "FCOS.USE_RELU": "box distances always go through a ReLU",
            "ROI_MASKIOU_HEAD.NAME": "there is one mask IoU head",
            "ROI_KEYPOINT_HEAD.IN_FEATURES": "MODEL.ROI_HEADS.IN_FEATURES applies to keypoints, too",
            "VOVNET.OUT_CHANNELS": "it never had an effect",
            "VOVNET.BACKBONE_OUT_CHANNELS": "it never had an effect",
        },
    ),
}

_EARLIER_VERSIONS = {
    "MODEL.SOLOV2.DCN_IN_INSTANCE": OldName("MODEL.SOLOV2.DEFORM_IN_INSTANCE"),
    "MODEL.SOLOV2.DCN_IN_MASK": OldName("MODEL.SOLOV2.DEFORM_IN_MASK"),
    "MODEL.ROI_MASK_HEAD.PASTE_UNCLIPPED": OldName("MODEL.CENTERMASK.PASTE_UNCLIPPED"),
    **_renamed(
        "MODEL.YOLACT.",
        {
            "MASK_IOU_ON": "MASK_IOU.ENABLED",
            "MASK_IOU_MIN_AREA": "MASK_IOU.MIN_AREA",
            "BOX_WEIGHT": "LOSS.BOX_WEIGHT",
            "CLASS_WEIGHT": "LOSS.CLASS_WEIGHT",
            "MASK_WEIGHT": "LOSS.MASK_WEIGHT",
            "SEM_SEG_WEIGHT": "LOSS.SEM_SEG_WEIGHT",
            "MASK_IOU_WEIGHT": "LOSS.MASK_IOU_WEIGHT",
            "NMS_PRE": "PRE_NMS_TOPK_TEST",
        },
    ),
}

SOURCES = {
    "AdelaiDet, SOLOv2": _ADELAIDET,
    "CenterMask2": _CENTERMASK2,
    "Earlier versions of this package": _EARLIER_VERSIONS,
}
OLD_NAMES: dict[str, OldName] = {key: old for names in SOURCES.values() for key, old in names.items()}


def register_old_names(cfg: CfgNode) -> None:
    """Make every merge into ``cfg`` refuse renamed options and ignore those without effect."""
    for key, old in OLD_NAMES.items():
        if old.new is None:
            cfg.register_deprecated_key(key)
        else:
            cfg.register_renamed_key(key, old.new, old.note or None)
