"""A SOLO that is as small as it gets."""

from __future__ import annotations

from pathlib import Path

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model

from centermask_solo import add_centermask_solo_config
from centermask_solo.modeling.solo import SOLO

CONFIGS = Path(__file__).parents[3] / "configs" / "SOLO"
LIGHT_DCN = ("MODEL.SOLO.HEAD", "decoupled_light", "MODEL.SOLO.DEFORM_IN_INSTANCE", "last")


def tiny_cfg(*overrides: object) -> CfgNode:
    """A published model with the smallest backbone, a narrow head, 3 classes and small grids; then ``overrides``."""
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.merge_from_file(str(CONFIGS / "solo_R_50_3x.yaml"))
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 18, 64
    cfg.MODEL.FPN.OUT_CHANNELS = 32
    node = cfg.MODEL.SOLO
    node.NUM_CLASSES = 3
    node.NUM_INSTANCE_CONVS = 1
    node.INSTANCE_CHANNELS = 32
    node.NUM_GRIDS = [10, 8, 6, 4, 3]
    node.SCALE_RANGES = ((1, 56), (28, 112), (56, 224), (112, 448), (224, 896))
    cfg.merge_from_list(list(overrides))
    return cfg


def eager_cfg(*overrides: object) -> CfgNode:
    """:func:`tiny_cfg` whose model finds something without training: pixels of masks have a probability of 0.8."""
    return tiny_cfg("MODEL.SOLO.PRIOR_PROB", 0.8, *overrides)


def tiny_model(*overrides: object, seed: int = 0) -> SOLO:
    """A :func:`tiny_cfg` model with random weights, in training mode; whatever ``overrides``, the same weights."""
    torch.manual_seed(seed)
    return build_model(tiny_cfg(*overrides)).train()
