"""A SOLOv2 that is as small as it gets."""

from __future__ import annotations

from pathlib import Path

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model

from centermask_solo import add_centermask_solo_config
from centermask_solo.modeling.solov2 import SOLOv2

CONFIGS = Path(__file__).parents[3] / "configs" / "SOLOv2"


def tiny_cfg(*overrides: object) -> CfgNode:
    """The published R18 model, with the narrowest heads, 3 classes and small grids; then ``overrides``."""
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.merge_from_file(str(CONFIGS / "solov2_R_18_light448_3x.yaml"))
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.FPN.OUT_CHANNELS = 32
    node = cfg.MODEL.SOLOV2
    node.NUM_CLASSES = 3
    node.NUM_INSTANCE_CONVS = 1
    node.INSTANCE_CHANNELS = node.MASK_CHANNELS = node.NUM_MASKS = 32
    node.NUM_GRIDS = [10, 8, 6, 4, 3]
    cfg.merge_from_list(list(overrides))
    return cfg


def tiny_panoptic_cfg(*overrides: object) -> CfgNode:
    """The same with a semantic head for things and two classes of stuff; then ``overrides``."""
    head = {"NUM_CLASSES": 3, "CONVS_DIM": 32, "LOSS_WEIGHT": 0.5}
    options = [item for key, value in head.items() for item in (f"MODEL.SEM_SEG_HEAD.{key}", value)]
    return tiny_cfg("MODEL.META_ARCHITECTURE", "PanopticSOLOv2", *options, *overrides)


def tiny_model(*overrides: object, seed: int = 0) -> SOLOv2:
    """A :func:`tiny_cfg` model with random weights, in training mode; whatever ``overrides``, the same weights."""
    torch.manual_seed(seed)
    return build_model(tiny_cfg(*overrides)).train()
