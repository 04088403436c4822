"""YOLACTs for tests: the published ResNet-50 model, and one as small as it gets."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from detectron2.structures import Instances

from centermask_solo import add_centermask_solo_config
from centermask_solo.modeling.yolact import YOLACT
from tests.modeling.inputs import input_of, instances_of, rectangles

ANCHOR_SIZES = [[24], [48], [96], [192], [384]]
RATIOS = [[1.0, 2.0, 0.5]]


def yolact_cfg(*overrides: object) -> CfgNode:
    """The published R50 model for any data; then ``overrides``."""
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    model = cfg.MODEL
    model.DEVICE, model.WEIGHTS = "cpu", ""
    model.META_ARCHITECTURE = "YOLACT"
    model.BACKBONE.NAME, model.BACKBONE.FREEZE_AT = "build_resnet_yolact_fpn_backbone", 0
    model.RESNETS.STRIDE_IN_1X1 = False
    model.RESNETS.OUT_FEATURES = model.FPN.IN_FEATURES = ["res3", "res4", "res5"]
    model.ANCHOR_GENERATOR.SIZES, model.ANCHOR_GENERATOR.ASPECT_RATIOS = ANCHOR_SIZES, RATIOS
    model.PIXEL_MEAN, model.PIXEL_STD = [123.68, 116.78, 103.94], [58.40, 57.12, 57.38]
    cfg.INPUT.FORMAT = "RGB"
    cfg.merge_from_list(list(overrides))
    return cfg


def tiny_cfg(*overrides: object) -> CfgNode:
    """ResNet-18 and levels of 32 channels, 3 classes, an input of 128 pixels; then ``overrides``."""
    cfg = yolact_cfg("MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.FPN.OUT_CHANNELS", 32)
    node = cfg.MODEL.YOLACT
    node.NUM_CLASSES, node.INPUT_SIZE, node.NUM_PROTOTYPES = 3, 128, 8
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [24], [48], [96], [128]]
    cfg.merge_from_list(list(overrides))
    return cfg


def tiny_plus_cfg(*overrides: object) -> CfgNode:
    """YOLACT++ as small as it gets: a narrow ResNet-50 with deformable blocks, nine anchors of a cell, mask scores."""
    cfg = tiny_cfg("MODEL.RESNETS.DEPTH", 50, "MODEL.RESNETS.RES2_OUT_CHANNELS", 32)
    resnet = cfg.MODEL.RESNETS
    resnet.STEM_OUT_CHANNELS, resnet.WIDTH_PER_GROUP = 16, 8
    resnet.DEFORM_ON_PER_STAGE, resnet.DEFORM_MODULATED, resnet.DEFORM_INTERVAL = [False, True, True, True], True, 3
    # The smallest input that the mask IoU head takes
    cfg.MODEL.YOLACT.MASK_IOU.ENABLED, cfg.MODEL.YOLACT.INPUT_SIZE = True, 249
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[s * 2 ** (i / 3) for i in range(3)] for s in (24, 48, 96, 128, 192)]
    cfg.merge_from_list(list(overrides))
    return cfg


def tiny_model(*overrides: object, seed: int = 0) -> YOLACT:
    """A :func:`tiny_cfg` model with random weights, in training mode; whatever ``overrides``, the same backbone."""
    torch.manual_seed(seed)
    return build_model(tiny_cfg(*overrides)).train()


def ground_truth(masks: torch.Tensor, classes: list[int], crowd: tuple[int, ...] = ()) -> Instances:
    """Ground truth of masks (M, h, w) bool with tight boxes; the rows ``crowd`` are crowds."""
    instances = instances_of(masks, classes)
    instances.gt_is_crowd = torch.zeros(len(masks), dtype=torch.bool)
    instances.gt_is_crowd[list(crowd)] = True
    return instances


def batch() -> list[dict[str, object]]:
    """Two images of different sizes, with three objects and a crowd, and with one object."""
    corners = ((4, 8, 40, 60), (30, 50, 60, 90), (2, 70, 12, 82), (44, 2, 62, 30))
    first = ground_truth(rectangles(64, 96, *corners), [0, 2, 1, 1], crowd=(3,))
    second = ground_truth(rectangles(128, 128, (5, 15, 105, 75)), [1])
    return [input_of(first), input_of(second, seed=1)]


def random_boxes(count: int, seed: int, side: int = 16, largest: int = 8) -> torch.Tensor:
    """Boxes (count, 4) with corners on a grid, so that many overlaps are equal."""
    rng = torch.Generator().manual_seed(seed)
    corners = torch.randint(0, side, (count, 2), generator=rng)
    sizes = torch.randint(1, largest, (count, 2), generator=rng)
    return torch.cat([corners, corners + sizes], dim=1).float() / side
