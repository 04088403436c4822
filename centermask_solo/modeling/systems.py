"""What a meta-architecture is to the rest of the package: one record each, in the only table of systems there is.

The class count, loading and inspecting weights, and the tools read these records; none of them names a system.
:func:`register_system` adds one, for a meta-architecture of your own, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ClassOutputs:
    """The layer that counts the classes in a state dict.

    Attributes:
        weight: name of a weight with rows for each class.
        boxes: name of a weight with four rows for each anchor, where ``weight`` repeats the classes for each anchor.
        background: rows of ``weight`` (of each anchor) that stand for the background.
    """

    weight: str
    boxes: str = ""
    background: int = 0


@dataclass(frozen=True)
class System:
    """A meta-architecture.

    Attributes:
        name: ``MODEL.META_ARCHITECTURE``.
        num_classes_key: the option that sets its number of classes.
        signature: parameters that tell its weights from those of any system registered after it.
        class_outputs: layers that count its classes; the first that a state dict has is used.
        class_layers: names of the layers with outputs for each class, as regular expressions.
        optional_heads: modules that a config adds or leaves out without making another model of it.
        score_threshold: score from which on detections are worth drawing.
    """

    name: str
    num_classes_key: str
    signature: tuple[str, ...]
    class_outputs: tuple[ClassOutputs, ...]
    class_layers: tuple[str, ...]
    optional_heads: frozenset[str] = frozenset()
    score_threshold: float = 0.3

    def matches(self, values: Mapping[str, Any]) -> bool:
        """Whether a state dict (names to values) has the parameters of :attr:`signature`."""
        return values.keys() >= set(self.signature)

    def count_classes(self, values: Mapping[str, Any]) -> int | None:
        """The number of classes of a state dict (names to tensors or arrays); None where no layer tells."""
        for outputs in self.class_outputs:
            if outputs.weight in values:
                num_anchors = values[outputs.boxes].shape[0] // 4 if outputs.boxes else 1
                return values[outputs.weight].shape[0] // num_anchors - outputs.background
        return None


_SYSTEMS: dict[str, System] = {}


def register_system(system: System) -> None:
    """Add a record.

    Raises:
        ValueError: there is one of the same name.
    """
    if system.name in _SYSTEMS:
        raise ValueError(f"there is already a system named {system.name}")
    _SYSTEMS[system.name] = system


def find_system(name: str) -> System | None:
    """The record of a meta-architecture; None for one that nobody has registered."""
    return _SYSTEMS.get(name)


def list_systems() -> tuple[System, ...]:
    """All records, in the order of registration."""
    return tuple(_SYSTEMS.values())


def is_class_layer(parameter: str) -> bool:
    """Whether a parameter belongs to a layer that some system sizes by its number of classes."""
    layer, _, name = parameter.rpartition(".")
    return name in ("weight", "bias") and any(
        re.fullmatch(pattern, layer) for system in _SYSTEMS.values() for pattern in system.class_layers
    )


def optional_heads() -> frozenset[str]:
    """The optional heads of all systems."""
    return frozenset().union(*(system.optional_heads for system in _SYSTEMS.values()))


_ROI_HEADS = frozenset(
    f"roi_heads.{name}" for name in ("box_head", "box_predictor", "mask_head", "maskiou_head", "keypoint_head")
)
_ROI_CLASS_LAYERS = (
    r"roi_heads\.mask_head\.predictor",
    r"roi_heads\.keypoint_head\.score_lowres",  # sized by the number of keypoints
    r"roi_heads\.box_predictor(?:\.\d+)?\.(?:cls_score|bbox_pred)",  # with a number: cascades
)
_BOX_PREDICTORS = tuple(
    ClassOutputs(f"roi_heads.box_predictor{stage}.cls_score.weight", background=1) for stage in ("", ".0")
)
_FCOS_OUTPUTS = ClassOutputs("proposal_generator.fcos_head.cls_logits.weight")
_FCOS_CLASS_LAYER = r"proposal_generator\.fcos_head\.cls_logits"
_CENTERMASK_CLASS_LAYERS = (
    *_ROI_CLASS_LAYERS,
    _FCOS_CLASS_LAYER,
    r"roi_heads\.maskiou_head\.maskiou",
)

for _system in (
    System(
        name="SOLOv2",
        num_classes_key="MODEL.SOLOV2.NUM_CLASSES",
        signature=("ins_head.cate_pred.weight", "mask_head.conv_pred.0.weight"),
        class_outputs=(ClassOutputs("ins_head.cate_pred.weight"),),
        class_layers=(r"ins_head\.cate_pred",),
    ),
    System(
        name="YOLACT",
        num_classes_key="MODEL.YOLACT.NUM_CLASSES",
        signature=("protonet.prototypes.weight", "head.mask_coefficients.weight"),
        class_outputs=(ClassOutputs("head.class_logits.weight", boxes="head.box_pred.weight", background=1),),
        class_layers=(r"head\.class_logits", r"mask_iou_head\.predictor", r"sem_seg_head\.predictor"),
        optional_heads=frozenset({"sem_seg_head", "mask_iou_head"}),
    ),
    System(
        name="PanopticFPN",
        num_classes_key="MODEL.ROI_HEADS.NUM_CLASSES",
        signature=("sem_seg_head.predictor.weight", "roi_heads.mask_head.predictor.weight"),
        class_outputs=(_FCOS_OUTPUTS, *_BOX_PREDICTORS),
        class_layers=(*_CENTERMASK_CLASS_LAYERS, r"sem_seg_head\.predictor"),
        optional_heads=_ROI_HEADS | {"proposal_generator", "sem_seg_head"},
    ),
    System(
        name="CenterMask",
        num_classes_key="MODEL.ROI_HEADS.NUM_CLASSES",
        signature=(_FCOS_OUTPUTS.weight, "roi_heads.mask_head.predictor.weight"),
        class_outputs=(_FCOS_OUTPUTS,),
        class_layers=_CENTERMASK_CLASS_LAYERS,
        optional_heads=_ROI_HEADS | {"proposal_generator"},
        score_threshold=0.5,  # its scores are square roots, and so higher
    ),
    System(
        name="FCOS",
        num_classes_key="MODEL.FCOS.NUM_CLASSES",
        signature=(_FCOS_OUTPUTS.weight,),
        class_outputs=(_FCOS_OUTPUTS,),
        class_layers=(_FCOS_CLASS_LAYER,),
        score_threshold=0.5,
    ),
    System(
        name="GeneralizedRCNN",
        num_classes_key="MODEL.ROI_HEADS.NUM_CLASSES",
        signature=("roi_heads.box_predictor.cls_score.weight",),
        class_outputs=_BOX_PREDICTORS,
        class_layers=_ROI_CLASS_LAYERS,
        optional_heads=_ROI_HEADS | {"proposal_generator"},
    ),
    System(
        name="RetinaNet",
        num_classes_key="MODEL.RETINANET.NUM_CLASSES",
        signature=("head.cls_score.weight", "head.bbox_pred.weight"),
        class_outputs=(ClassOutputs("head.cls_score.weight", boxes="head.bbox_pred.weight"),),
        class_layers=(r"head\.cls_score",),
    ),
):
    register_system(_system)
