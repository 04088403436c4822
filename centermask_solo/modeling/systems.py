"""Records of the meta-architectures: all that the rest of the package knows of them.

The class-count check, the loading and inspection of weights, and the tools read these records; none of them names a
system. :func:`register_system` adds a record, also for a meta-architecture of your own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .class_layers import ClassOutputs, ClassRows

if TYPE_CHECKING:
    from detectron2.config import CfgNode

    from .suggestions import InputObjects, Suggestion


@dataclass(frozen=True)
class System:
    """A meta-architecture.

    Attributes:
        name: ``MODEL.META_ARCHITECTURE``.
        num_classes_key: Option that sets its number of classes.
        signature: Parameters that distinguish its weights from those of every system registered after it.
        class_outputs: Layers whose shape gives the number of classes; the first one that a state dict has is used.
        class_layers: Names of the layers with outputs for each class, as regular expressions.
        class_rows: How the rows of these layers belong to classes, so that training can keep the weights of classes
            that the new data names, too. A layer that is left out does not depend on the names; if all are left out,
            nothing is kept.
        optional_heads: Modules that a config can add or leave out.
        reads: Which of the options in ``option_scope.SCOPED`` it reads itself, and options of its own, as options or
            groups of them; None if that is unknown. Those that another system reads are refused when they are changed.
        parts: Options that choose parts, such as RoI heads, which read more; with the only one that fits, or "".
        instead: Own options to name when one is refused, by the last word of its name.
        score_threshold: Minimum score of detections that are worth drawing.
        input_size_key: Option with the side of the square that it resizes every image to; "" if it takes any size.
        suggest: Returns options that fit the objects of a dataset, from a config and the objects at its input.
        short_training: Options of initialization with which a short training gets further, and why.
    """

    name: str
    num_classes_key: str
    signature: tuple[str, ...]
    class_outputs: tuple[ClassOutputs, ...]
    class_layers: tuple[str, ...]
    class_rows: tuple[ClassRows, ...] = ()
    optional_heads: frozenset[str] = frozenset()
    reads: tuple[str, ...] | None = None
    parts: Mapping[str, str] = field(default_factory=dict)
    instead: Mapping[str, str] = field(default_factory=dict)
    score_threshold: float = 0.3
    input_size_key: str = ""
    suggest: Callable[[CfgNode, InputObjects], list[Suggestion]] | None = None
    short_training: tuple[Mapping[str, Any], str] | None = None

    def matches(self, values: Mapping[str, Any]) -> bool:
        """Return whether a state dict (names to values) has the parameters of :attr:`signature`."""
        return values.keys() >= set(self.signature)

    def count_classes(self, values: Mapping[str, Any]) -> int | None:
        """Return the number of classes of a state dict (names to tensors or arrays); None if no layer gives it."""
        for outputs in self.class_outputs:
            if outputs.weight in values and len(values[outputs.weight].shape):
                num_anchors = max(1, values[outputs.boxes].shape[0] // 4) if outputs.boxes else 1
                return values[outputs.weight].shape[0] // num_anchors - outputs.background
        return None


_SYSTEMS: dict[str, System] = {}


def register_system(system: System) -> None:
    """Register the record of a system.

    Raises:
        ValueError: The name is taken.
    """
    if system.name in _SYSTEMS:
        raise ValueError(f"there is already a system named {system.name}")
    _SYSTEMS[system.name] = system


def find_system(name: str) -> System | None:
    """Return the record of a meta-architecture, or None if it has none."""
    return _SYSTEMS.get(name)


def default_score_threshold(cfg: CfgNode) -> float:
    """Return the score from which on detections of the config's system are worth keeping."""
    return (find_system(cfg.MODEL.META_ARCHITECTURE) or System).score_threshold


def list_systems() -> tuple[System, ...]:
    """Return all records, in the order of registration."""
    return tuple(_SYSTEMS.values())


def is_class_layer(parameter: str) -> bool:
    """Return whether a parameter belongs to a layer whose size depends, in some system, on the number of classes."""
    layer, _, name = parameter.rpartition(".")
    return name in ("weight", "bias") and any(
        re.fullmatch(pattern, layer) for system in _SYSTEMS.values() for pattern in system.class_layers
    )


def optional_heads() -> frozenset[str]:
    """Return the optional heads of all systems."""
    return frozenset().union(*(system.optional_heads for system in _SYSTEMS.values()))


_PARTS = ("box_head", "box_predictor", "mask_head", "maskiou_head", "keypoint_head")
_ROI_HEADS = frozenset(f"roi_heads.{name}" for name in _PARTS)
_SEMANTIC_HEAD, _SEMANTIC_LAYER = frozenset({"semantic_head"}), r"semantic_head\.predictor"  # an auxiliary loss
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
_ROI_CLASS_ROWS = (
    ClassRows(r"roi_heads\.mask_head\.predictor"),
    ClassRows(r"roi_heads\.box_predictor(?:\.\d+)?\.cls_score", background="last"),
    ClassRows(r"roi_heads\.box_predictor(?:\.\d+)?\.bbox_pred", each=4),
)
_MASK_IOU_ROWS = ClassRows(r"roi_heads\.maskiou_head\.maskiou")
_CENTERMASK_CLASS_ROWS = (*_ROI_CLASS_ROWS, ClassRows(_FCOS_CLASS_LAYER), _MASK_IOU_ROWS)
_CENTERMASK_CLASS_LAYERS = (*_ROI_CLASS_LAYERS, _FCOS_CLASS_LAYER, r"roi_heads\.maskiou_head\.maskiou")


def _instead(node: str, nms: str, **more: str) -> dict[str, str]:
    """Return the options below ``MODEL.<node>`` to set instead of those of Detectron2's detectors."""
    names = {"NUM_CLASSES": "NUM_CLASSES", "SCORE_THRESH_TEST": "SCORE_THRESH_TEST", "NMS_THRESH_TEST": nms, **more}
    return {name: f"MODEL.{node}.{own}" for name, own in names.items()}


def _suggest(package: str, *more: str) -> Callable[[CfgNode, InputObjects], list[Suggestion]]:
    """Return the function ``suggest`` of a system, which is imported when it is called."""
    return lambda cfg, objects: import_module(f"{__package__}.{package}.suggestions").suggest(cfg, objects, *more)


_SOLOV2_SIGNATURE = ("ins_head.cate_pred.weight", "mask_head.conv_pred.0.weight")
_TOPK = {"TOPK_CANDIDATES_TEST": "PRE_NMS_TOPK_TEST"}
_FCOS_INSTEAD = _instead("FCOS", "NMS.IOU_THRESH", DETECTIONS_PER_IMAGE="POST_NMS_TOPK_TEST", **_TOPK)
_CENTERMASK_INSTEAD = _FCOS_INSTEAD | {"NUM_CLASSES": "MODEL.ROI_HEADS.NUM_CLASSES"}
_TWO_STAGES = {"MODEL.PROPOSAL_GENERATOR.NAME": "", "MODEL.ROI_HEADS.NAME": "", "TEST.AUG.ENABLED": ""}
_CENTERMASK_PARTS = {"MODEL.PROPOSAL_GENERATOR.NAME": "FCOS", "MODEL.ROI_HEADS.NAME": "CenterROIHeads"}

_SOLOV2_SHORT_TRAINING = {"MODEL.SOLOV2.COORDINATE_INIT": 20.0}, "masks of different objects come apart sooner"

for _system in (
    System(
        name="PanopticSOLOv2",
        num_classes_key="MODEL.SOLOV2.NUM_CLASSES",
        signature=(*_SOLOV2_SIGNATURE, "sem_seg_head.predictor.weight"),
        class_outputs=(ClassOutputs("ins_head.cate_pred.weight"),),
        class_layers=(r"ins_head\.cate_pred", r"sem_seg_head\.predictor", _SEMANTIC_LAYER),
        class_rows=(ClassRows(r"ins_head\.cate_pred"), ClassRows(_SEMANTIC_LAYER)),  # sem_seg_head's are stuff
        optional_heads=_SEMANTIC_HEAD | {"sem_seg_head"},
        reads=(
            *("MODEL.SOLOV2", "TEST.DETECTIONS_PER_IMAGE", "MODEL.SEM_SEG_HEAD"),
            *(f"MODEL.PANOPTIC_FPN.COMBINE.{name}" for name in ("OVERLAP_THRESH", "STUFF_AREA_LIMIT")),
            "MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH",
        ),
        instead=_instead("SOLOV2", "NMS", **_TOPK),
        suggest=_suggest("solov2"),
        short_training=_SOLOV2_SHORT_TRAINING,
    ),
    System(
        name="SOLOv2",
        num_classes_key="MODEL.SOLOV2.NUM_CLASSES",
        signature=_SOLOV2_SIGNATURE,
        class_outputs=(ClassOutputs("ins_head.cate_pred.weight"),),
        class_layers=(r"ins_head\.cate_pred", _SEMANTIC_LAYER),
        class_rows=(ClassRows(r"ins_head\.cate_pred"), ClassRows(_SEMANTIC_LAYER)),
        optional_heads=_SEMANTIC_HEAD,
        reads=("MODEL.SOLOV2", "TEST.DETECTIONS_PER_IMAGE"),
        instead=_instead("SOLOV2", "NMS", **_TOPK),
        suggest=_suggest("solov2"),
        short_training=_SOLOV2_SHORT_TRAINING,
    ),
    System(
        name="SOLO",
        num_classes_key="MODEL.SOLO.NUM_CLASSES",
        signature=("ins_head.cate_tower.0.weight", "ins_head.cate_pred.weight"),
        class_outputs=(ClassOutputs("ins_head.cate_pred.weight"),),
        class_layers=(r"ins_head\.cate_pred", _SEMANTIC_LAYER),
        class_rows=(ClassRows(r"ins_head\.cate_pred"), ClassRows(_SEMANTIC_LAYER)),
        optional_heads=_SEMANTIC_HEAD,
        reads=("MODEL.SOLO", "TEST.DETECTIONS_PER_IMAGE"),
        instead=_instead("SOLO", "NMS", **_TOPK),
        suggest=_suggest("solov2", "SOLO"),
    ),
    System(
        name="YOLACT",
        num_classes_key="MODEL.YOLACT.NUM_CLASSES",
        signature=("protonet.prototypes.weight", "head.mask_coefficients.weight"),
        class_outputs=(ClassOutputs("head.class_logits.weight", boxes="head.box_pred.weight", background=1),),
        class_layers=(r"head\.class_logits", r"mask_iou_head\.predictor", r"sem_seg_head\.predictor"),
        class_rows=(
            ClassRows(r"head\.class_logits", background="first"),
            ClassRows(r"(?:mask_iou|sem_seg)_head\.predictor"),
        ),
        optional_heads=frozenset({"sem_seg_head", "mask_iou_head"}),
        reads=(
            *("MODEL.YOLACT", "MODEL.ANCHOR_GENERATOR.SIZES", "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS"),
            "TEST.DETECTIONS_PER_IMAGE",
        ),
        instead=_instead("YOLACT", "NMS.IOU_THRESH", **_TOPK),
        input_size_key="MODEL.YOLACT.INPUT_SIZE",
        suggest=_suggest("yolact"),
    ),
    System(
        name="PanopticFPN",
        num_classes_key="MODEL.ROI_HEADS.NUM_CLASSES",
        signature=("sem_seg_head.predictor.weight", "roi_heads.mask_head.predictor.weight"),
        class_outputs=(_FCOS_OUTPUTS, *_BOX_PREDICTORS),
        class_layers=(*_CENTERMASK_CLASS_LAYERS, r"sem_seg_head\.predictor"),
        class_rows=_CENTERMASK_CLASS_ROWS,  # the other predictor's are stuff
        optional_heads=_ROI_HEADS | {"proposal_generator", "sem_seg_head"},
        reads=("MODEL.SEM_SEG_HEAD", "MODEL.PANOPTIC_FPN"),
        parts=_TWO_STAGES,
        instead=_instead("ROI_HEADS", "NMS_THRESH_TEST"),
    ),
    System(
        name="CenterMask",
        num_classes_key="MODEL.ROI_HEADS.NUM_CLASSES",
        signature=(_FCOS_OUTPUTS.weight, "roi_heads.mask_head.predictor.weight"),
        class_outputs=(_FCOS_OUTPUTS,),
        class_layers=(*_CENTERMASK_CLASS_LAYERS, _SEMANTIC_LAYER),
        class_rows=(*_CENTERMASK_CLASS_ROWS, ClassRows(_SEMANTIC_LAYER)),
        optional_heads=_ROI_HEADS | _SEMANTIC_HEAD | {"proposal_generator"},
        reads=(),
        parts=_TWO_STAGES | _CENTERMASK_PARTS,
        instead=_CENTERMASK_INSTEAD,
        suggest=_suggest("fcos"),
        score_threshold=0.5,  # its scores are square roots of probabilities, and so higher
    ),
    System(
        name="FCOS",
        num_classes_key="MODEL.FCOS.NUM_CLASSES",
        signature=(_FCOS_OUTPUTS.weight,),
        class_outputs=(_FCOS_OUTPUTS,),
        class_layers=(_FCOS_CLASS_LAYER, _SEMANTIC_LAYER),
        class_rows=(ClassRows(_FCOS_CLASS_LAYER), ClassRows(_SEMANTIC_LAYER)),
        optional_heads=_SEMANTIC_HEAD,
        reads=("MODEL.FCOS",),
        instead=_FCOS_INSTEAD,
        suggest=_suggest("fcos"),
        score_threshold=0.5,
    ),
    System(
        name="GeneralizedRCNN",
        num_classes_key="MODEL.ROI_HEADS.NUM_CLASSES",
        signature=("roi_heads.box_predictor.cls_score.weight",),
        class_outputs=_BOX_PREDICTORS,
        class_layers=_ROI_CLASS_LAYERS,
        class_rows=_ROI_CLASS_ROWS,
        optional_heads=_ROI_HEADS | {"proposal_generator"},
        reads=(),
        parts=_TWO_STAGES,
        instead=_instead("ROI_HEADS", "NMS_THRESH_TEST"),
    ),
    System(
        name="RCNN",
        num_classes_key="MODEL.RCNN.NUM_CLASSES",
        signature=("svm.weight", "box_pred.weight"),
        class_outputs=(ClassOutputs("svm.weight"),),
        class_layers=("class_pred", "svm", "box_pred"),
        class_rows=(ClassRows("class_pred", background="last"), ClassRows("svm"), ClassRows("box_pred", each=4)),
        reads=("MODEL.RCNN", "TEST.DETECTIONS_PER_IMAGE"),
        instead=_instead("RCNN", "NMS_THRESH_TEST"),
        score_threshold=0.5,  # on the positive side of the SVM
    ),
    System(
        name="RetinaNet",
        num_classes_key="MODEL.RETINANET.NUM_CLASSES",
        signature=("head.cls_score.weight", "head.bbox_pred.weight"),
        class_outputs=(ClassOutputs("head.cls_score.weight", boxes="head.bbox_pred.weight"),),
        class_layers=(r"head\.cls_score",),
        class_rows=(ClassRows(r"head\.cls_score"),),
        reads=("MODEL.RETINANET", "MODEL.ANCHOR_GENERATOR", "TEST.DETECTIONS_PER_IMAGE"),
        instead=_instead("RETINANET", "NMS_THRESH_TEST", PRE_NMS_TOPK_TEST="TOPK_CANDIDATES_TEST"),
    ),
):
    register_system(_system)
