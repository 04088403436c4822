"""The arguments of YOLACT's constructor from a config."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode
from detectron2.modeling import Backbone

from ..instance_nms import build_instance_nms
from ..option_checks import select_shapes
from ..semantic import SemanticHead
from .anchors import level_shapes
from .heads import KEY, YOLACTHead, YOLACTMaskIoUHead, YOLACTProtonet
from .losses import LossWeights
from .targets import TargetOptions


def arguments_from_config(cfg: CfgNode, backbone: Backbone) -> dict[str, Any]:
    """Return the arguments of :class:`YOLACT` that it does not share with the other one-stage systems.

    Raises:
        ConfigError: Options contradict each other or the backbone.
    """
    node = cfg.MODEL.YOLACT
    shapes = backbone.output_shape()
    select_shapes(shapes, node.IN_FEATURES, f"{KEY}.IN_FEATURES")
    proto = select_shapes(shapes, [node.PROTO_FEATURE], f"{KEY}.PROTO_FEATURE")[0]
    select_shapes(shapes, [*node.IN_FEATURES, node.PROTO_FEATURE], f"{KEY}.IN_FEATURES with PROTO_FEATURE")
    channels = proto.channels
    sizes, ratios = cfg.MODEL.ANCHOR_GENERATOR.SIZES, cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS
    anchor_shapes = level_shapes(sizes, ratios, len(node.IN_FEATURES), square=node.SQUARE_ANCHORS)
    sem_seg_head = None
    if node.LOSS.SEM_SEG_WEIGHT > 0:
        sem_seg_head = SemanticHead(in_channels=channels, num_classes=node.NUM_CLASSES)
    return {
        "protonet": YOLACTProtonet(in_channels=channels, num_prototypes=node.NUM_PROTOTYPES, channels=channels),
        "head": YOLACTHead(
            in_channels=channels,
            num_classes=node.NUM_CLASSES,
            num_anchors=anchor_shapes.shape[1],
            num_prototypes=node.NUM_PROTOTYPES,
        ),
        "sem_seg_head": sem_seg_head,
        "mask_iou_head": YOLACTMaskIoUHead(num_classes=node.NUM_CLASSES) if node.MASK_IOU.ENABLED else None,
        "head_in_features": node.IN_FEATURES,
        "proto_in_feature": node.PROTO_FEATURE,
        "proto_in_stride": proto.stride,
        "anchor_shapes": anchor_shapes,
        "input_size": node.INPUT_SIZE,
        "num_classes": node.NUM_CLASSES,
        "test_nms": build_instance_nms(node.NMS, ["pred_masks", "pred_boxes"]),
        "target_options": TargetOptions(
            positive_iou=node.POSITIVE_IOU,
            negative_iou=node.NEGATIVE_IOU,
            crowd_ioa=node.CROWD_IOA,
            ohem_ratio=node.OHEM_RATIO,
            masks_to_train=node.MASKS_TO_TRAIN,
        ),
        "loss_weights": LossWeights(
            box=node.LOSS.BOX_WEIGHT,
            classes=node.LOSS.CLASS_WEIGHT,
            mask=node.LOSS.MASK_WEIGHT,
            sem_seg=node.LOSS.SEM_SEG_WEIGHT,
            mask_iou=node.LOSS.MASK_IOU_WEIGHT,
        ),
        "mask_iou_min_area": node.MASK_IOU.MIN_AREA,
        "test_score_thresh": node.SCORE_THRESH_TEST,
        "test_max_candidates": node.PRE_NMS_TOPK_TEST,
    }
