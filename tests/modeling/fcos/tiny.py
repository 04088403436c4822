"""A small FCOS."""

from __future__ import annotations

from pathlib import Path

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model

from centermask_solo import add_centermask_solo_config
from centermask_solo.modeling.fcos import FCOS

CONFIGS = Path(__file__).parents[3] / "configs" / "FCOS"
K = 4
SMALL = [
    *["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.BACKBONE.NAME", "build_fcos_mobilenetv2_fpn_backbone"],
    *["MODEL.FPN.OUT_CHANNELS", 64, "MODEL.FCOS.NUM_CLASSES", K, "MODEL.FCOS.PRIOR_PROB", 0.2],
    *["MODEL.FCOS.NUM_CLASS_CONVS", 1, "MODEL.FCOS.NUM_BOX_CONVS", 1],
]


def tiny_cfg(*overrides: object) -> CfgNode:
    """Return the config of the small model, with ``overrides``."""
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.merge_from_file(str(CONFIGS / "fcos_R_50_FPN_1x.yaml"))
    cfg.merge_from_list(SMALL + list(overrides))
    return cfg


def tiny_model(*overrides: object, seed: int = 0) -> FCOS:
    """Return a model of :func:`tiny_cfg` with random weights and boxes that are some strides wide."""
    torch.manual_seed(seed)
    model = build_model(tiny_cfg(*overrides))
    torch.nn.init.constant_(model.proposal_generator.fcos_head.bbox_pred.bias, 2.0)
    return model
