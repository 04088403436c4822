"""Every added option has its effect: on the networks, on their initialization, on the losses, or on the detections.

Each case changes one option of a small model with random weights and names what changes. Options of losses and of
detections leave the networks and their initialization as they are.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_backbone, build_model
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

from centermask_solo import add_centermask_solo_config
from centermask_solo.config import merge_config
from centermask_solo.config.trees import flatten

SHAPES = {"SOLOV2": "shapes/solov2_shapes.yaml", "SOLO": "shapes/solo_shapes.yaml"}
SHAPES |= {"FCOS": "shapes/centermask_shapes.yaml"}
SHAPES |= {"CENTERMASK": SHAPES["FCOS"], "ROI_MASK_HEAD": SHAPES["FCOS"], "ROI_KEYPOINT_HEAD": SHAPES["FCOS"]}
SHAPES |= {"YOLACT": "shapes/yolact_shapes.yaml", "VOVNET": "CenterMask/centermask_lite_V_19_eSE_FPN_ms_4x.yaml"}
SHAPES |= {"DARKNET": "YOLACT/yolact_darknet53.yaml", "MOBILENETV2": SHAPES["FCOS"]}
SHAPES |= {"RESNETS": "YOLACT/yolact_plus_resnet50.yaml"}
# Models with random weights detect something.
BASE = {
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.SOLOV2.PRIOR_PROB": 0.3,
    "MODEL.SOLOV2.NMS.SCORE_THRESH": 0.0,
    "MODEL.SOLO.PRIOR_PROB": 0.3,
    "MODEL.SOLO.NMS.SCORE_THRESH": 0.0,
    "MODEL.FCOS.PRIOR_PROB": 0.3,
    "MODEL.YOLACT.INPUT_SIZE": 128,
    "MODEL.YOLACT.MASK_IOU.ENABLED": False,
    "MODEL.YOLACT.NMS.CLASS_SCORE_THRESH": 0.0,
}
P3_TO_P6 = ["p3", "p4", "p5", "p6"]
SMALL_ANCHORS = {"MODEL.ANCHOR_GENERATOR.SIZES": [[9], [18], [36], [72], [144]]}  # each level has an object
PLUS = {"MODEL.YOLACT.MASK_IOU.ENABLED": True, "MODEL.YOLACT.INPUT_SIZE": 256}  # the smallest input is 249


class Case(NamedTuple):
    """A value of an option, and what it changes.

    Attributes:
        changes: "networks", "initialization", "losses", "proposals" (of training) or "detections".
        value: Other value of the option.
        others: Options that have the same values with and without it.
    """

    changes: str
    value: Any
    others: dict[str, Any] = {}  # noqa: RUF012  (read only)


def nms_cases(system: str, greedy: str = "BatchedNMS") -> dict[str, Case]:
    """The options of NMS in a system, each with a rule that reads it."""
    node = f"MODEL.{system}.NMS"

    def rule(name: str, **options: Any) -> dict[str, Any]:
        return {f"{node}.NAME": name, **{f"{node}.{key}": value for key, value in options.items()}}

    return {
        f"{node}.NAME": Case("detections", "MatrixNMS", rule(greedy)),
        f"{node}.IOU_THRESH": Case("detections", 0.1, rule(greedy, IOU_THRESH=0.9)),
        f"{node}.CLASS_AGNOSTIC": Case("detections", True, rule(greedy, IOU_THRESH=0.3)),
        f"{node}.KERNEL": Case("detections", "linear", rule("MatrixNMS", SCORE_THRESH=0.0)),
        f"{node}.SIGMA": Case("detections", 0.5, rule("MatrixNMS", SCORE_THRESH=0.0)),
        f"{node}.SCORE_THRESH": Case("detections", 0.8, rule("MatrixNMS", SCORE_THRESH=0.0)),
        f"{node}.TOPK": Case("detections", 1, rule("FastNMS", IOU_THRESH=1.0)),
        f"{node}.CLASS_SCORE_THRESH": Case("detections", 0.8, rule("FastNMS", CLASS_SCORE_THRESH=0.0)),
    }


SOLOV2, SOLO, FCOS, CENTERMASK, YOLACT = (f"MODEL.{x}." for x in ("SOLOV2", "SOLO", "FCOS", "CENTERMASK", "YOLACT"))
CASES = {
    SOLOV2 + "NUM_CLASSES": Case("networks", 3),
    SOLOV2 + "IN_FEATURES": Case("losses", ["p3", "p3", "p4", "p5", "p6"]),
    SOLOV2 + "STRIDES": Case("losses", [8, 8, 8, 32, 32]),
    SOLOV2 + "SCALE_RANGES": Case("losses", ((1, 64), (16, 64), (32, 96), (64, 160), (128, 512))),
    SOLOV2 + "NUM_GRIDS": Case("losses", [20, 20, 16, 12, 8]),
    SOLOV2 + "SIGMA": Case("losses", 1.0),
    SOLOV2 + "INSTANCE_CHANNELS": Case("networks", 64),
    SOLOV2 + "NUM_INSTANCE_CONVS": Case("networks", 1),
    SOLOV2 + "NORM": Case("networks", "none"),
    SOLOV2 + "PRIOR_PROB": Case("initialization", 0.01),
    SOLOV2 + "COORDINATE_INIT": Case("initialization", 2.0),
    SOLOV2 + "DEFORM_IN_INSTANCE": Case("networks", "last"),
    SOLOV2 + "DEFORM_IN_MASK": Case("networks", True),
    SOLOV2 + "DEFORM_MODULATED": Case("networks", False, {SOLOV2 + "DEFORM_IN_MASK": True}),
    SOLOV2 + "DROP_BLOCK.PROB": Case("losses", 0.5),
    SOLOV2 + "DROP_BLOCK.SIZE": Case("losses", 5, {SOLOV2 + "DROP_BLOCK.PROB": 0.5}),
    SOLOV2 + "MASK_IN_FEATURES": Case("networks", ["p2", "p3", "p4"]),
    SOLOV2 + "MASK_CHANNELS": Case("networks", 32),
    SOLOV2 + "NUM_MASKS": Case("networks", 32),
    SOLOV2 + "LOSS.FOCAL_ALPHA": Case("losses", 0.5),
    SOLOV2 + "LOSS.FOCAL_GAMMA": Case("losses", 1.0),
    SOLOV2 + "LOSS.CLASS_WEIGHT": Case("losses", 2.0),
    SOLOV2 + "LOSS.MASK_WEIGHT": Case("losses", 2.0),
    SOLOV2 + "LOSS.SEM_SEG_WEIGHT": Case("networks", 1.0),
    SOLOV2 + "SCORE_THRESH_TEST": Case("detections", 0.7),
    SOLOV2 + "PRE_NMS_TOPK_TEST": Case("detections", 3),
    SOLOV2 + "MASK_THRESH_TEST": Case("detections", 0.6),
    **nms_cases("SOLOV2", greedy="MaskNMS"),
    SOLO + "NUM_CLASSES": Case("networks", 3),
    SOLO + "HEAD": Case("networks", "decoupled"),
    SOLO + "IN_FEATURES": Case("losses", ["p3", "p3", "p4", "p5", "p6"]),
    SOLO + "STRIDES": Case("losses", [8, 8, 8, 32, 32]),
    SOLO + "SCALE_RANGES": Case("losses", ((1, 64), (16, 64), (32, 96), (64, 160), (128, 512))),
    SOLO + "NUM_GRIDS": Case("networks", [20, 20, 16, 12, 8]),
    SOLO + "SIGMA": Case("losses", 1.0),
    SOLO + "INSTANCE_CHANNELS": Case("networks", 64),
    SOLO + "NUM_INSTANCE_CONVS": Case("networks", 1),
    SOLO + "NORM": Case("networks", "none"),
    SOLO + "PRIOR_PROB": Case("initialization", 0.01),
    SOLO + "COORDINATE_INIT": Case("initialization", 2.0),
    SOLO + "DEFORM_IN_INSTANCE": Case("networks", "last"),
    SOLO + "DEFORM_MODULATED": Case("networks", True, {SOLO + "DEFORM_IN_INSTANCE": "last"}),
    SOLO + "DROP_BLOCK.PROB": Case("losses", 0.5),
    SOLO + "DROP_BLOCK.SIZE": Case("losses", 5, {SOLO + "DROP_BLOCK.PROB": 0.5}),
    SOLO + "LOSS.FOCAL_ALPHA": Case("losses", 0.5),
    SOLO + "LOSS.FOCAL_GAMMA": Case("losses", 1.0),
    SOLO + "LOSS.CLASS_WEIGHT": Case("losses", 2.0),
    SOLO + "LOSS.MASK_WEIGHT": Case("losses", 2.0),
    SOLO + "LOSS.SEM_SEG_WEIGHT": Case("networks", 1.0),
    SOLO + "SCORE_THRESH_TEST": Case("detections", 0.8),
    SOLO + "PRE_NMS_TOPK_TEST": Case("detections", 3),
    SOLO + "MASK_THRESH_TEST": Case("detections", 0.6),
    **nms_cases("SOLO", greedy="MaskNMS"),
    FCOS + "IN_FEATURES": Case("losses", ["p2", "p3", "p4", "p5", "p6"]),
    FCOS + "SIZES_OF_INTEREST": Case("losses", [16, 32, 64, 128]),
    FCOS + "TOP_LEVELS": Case(
        "networks", 1, {FCOS + "IN_FEATURES": P3_TO_P6, FCOS + "SIZES_OF_INTEREST": [9, 99, 999]}
    ),
    FCOS + "NUM_CLASS_CONVS": Case("networks", 1),
    FCOS + "NUM_BOX_CONVS": Case("networks", 1),
    FCOS + "NUM_SHARED_CONVS": Case("networks", 1),
    FCOS + "NORM": Case("networks", "none"),
    FCOS + "USE_SCALE": Case("networks", False),
    FCOS + "USE_DEFORMABLE": Case("networks", True),
    FCOS + "PRIOR_PROB": Case("initialization", 0.01),
    FCOS + "CENTER_SAMPLE": Case("losses", False),
    FCOS + "POS_RADIUS": Case("losses", 0.5),
    FCOS + "LOSS.FOCAL_ALPHA": Case("losses", 0.5),
    FCOS + "LOSS.FOCAL_GAMMA": Case("losses", 1.0),
    FCOS + "LOSS.BOX_TYPE": Case("losses", "iou"),
    FCOS + "LOSS.SEM_SEG_WEIGHT": Case("networks", 1.0),
    FCOS + "SCORE_THRESH_TRAIN": Case("proposals", 0.9),
    FCOS + "SCORE_THRESH_TEST": Case("detections", 0.9),
    FCOS + "THRESH_WITH_CENTERNESS": Case("detections", True, {FCOS + "SCORE_THRESH_TEST": 0.7}),
    FCOS + "PRE_NMS_TOPK_TRAIN": Case("proposals", 2),
    FCOS + "PRE_NMS_TOPK_TEST": Case("detections", 2),
    FCOS + "POST_NMS_TOPK_TRAIN": Case("proposals", 2),
    FCOS + "POST_NMS_TOPK_TEST": Case("detections", 2),
    **nms_cases("FCOS"),
    "MODEL.ROI_MASK_HEAD.LEVEL_ASSIGNMENT": Case("networks", "area"),
    "MODEL.ROI_KEYPOINT_HEAD.LEVEL_ASSIGNMENT": Case("networks", "area", {"MODEL.KEYPOINT_ON": True}),
    CENTERMASK + "MASK_IOU.ENABLED": Case("networks", False),
    CENTERMASK + "MASK_IOU.CONV_DIM": Case("networks", 32),
    CENTERMASK + "MASK_IOU.EXPONENT": Case("detections", 1.0),
    CENTERMASK + "MASK_IOU.NUM_CONVS": Case("networks", 1),
    CENTERMASK + "LOSS.MASK_IOU_WEIGHT": Case("losses", 2.0),
    YOLACT + "NUM_CLASSES": Case("networks", 3),
    YOLACT + "INPUT_SIZE": Case("losses", 160),
    YOLACT + "IN_FEATURES": Case("losses", ["p3", "p4", "p4", "p5", "p6"], SMALL_ANCHORS),
    YOLACT + "PROTO_FEATURE": Case("losses", "p4"),
    YOLACT + "NUM_PROTOTYPES": Case("networks", 16),
    YOLACT + "SQUARE_ANCHORS": Case("losses", True),
    YOLACT + "POSITIVE_IOU": Case("losses", 0.8),
    YOLACT + "NEGATIVE_IOU": Case("losses", 0.1),
    YOLACT + "CROWD_IOA": Case("losses", 0.1),
    YOLACT + "OHEM_RATIO": Case("losses", 1),
    YOLACT + "MASKS_TO_TRAIN": Case("losses", 1),
    YOLACT + "LOSS.BOX_WEIGHT": Case("losses", 2.0),
    YOLACT + "LOSS.CLASS_WEIGHT": Case("losses", 2.0),
    YOLACT + "LOSS.MASK_WEIGHT": Case("losses", 2.0),
    YOLACT + "LOSS.SEM_SEG_WEIGHT": Case("losses", 2.0),
    YOLACT + "LOSS.MASK_IOU_WEIGHT": Case("losses", 2.0, PLUS),
    YOLACT + "MASK_IOU.ENABLED": Case("networks", False, PLUS),
    YOLACT + "MASK_IOU.MIN_AREA": Case("losses", 1000, PLUS),
    YOLACT + "SCORE_THRESH_TEST": Case("detections", 0.2),
    YOLACT + "PRE_NMS_TOPK_TEST": Case("detections", 3, {YOLACT + "NMS.NAME": "BatchedNMS"}),
    **nms_cases("YOLACT"),
    "MODEL.RESNETS.STEM_TYPE": Case("networks", "deep"),
    "MODEL.RESNETS.POOL_SHORTCUTS": Case("networks", True),
    "MODEL.RESNETS.DEFORM_INTERVAL": Case("networks", 3),
    "MODEL.DARKNET.OUT_FEATURES": Case("networks", ["stage1", "stage3", "stage4", "stage5"]),
    "MODEL.DARKNET.NORM": Case("networks", "BN", {"MODEL.DARKNET.NORM": "FrozenBN"}),
    "MODEL.MOBILENETV2.NORM": Case("networks", "BN"),
    "MODEL.VOVNET.CONV_BODY": Case("networks", "V-39-eSE"),
    "MODEL.VOVNET.OUT_FEATURES": Case("networks", ["stage2", "stage3", "stage4", "stage5"]),
    "MODEL.VOVNET.NORM": Case("networks", "GN"),
    "MODEL.VOVNET.DEFORM_ON_PER_STAGE": Case("networks", [False, True, False, False]),
    "MODEL.VOVNET.DEFORM_MODULATED": Case("networks", True, {"MODEL.VOVNET.DEFORM_ON_PER_STAGE": [True] * 4}),
    "MODEL.VOVNET.DEFORM_NUM_GROUPS": Case("networks", 2, {"MODEL.VOVNET.DEFORM_ON_PER_STAGE": [True] * 4}),
}


def test_every_added_option_has_a_case_or_a_test():
    """Options of data and training have tests beside what reads them, which write their full names."""
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    added = flatten(cfg).keys() - flatten(get_cfg()).keys()
    assert added >= CASES.keys()
    files = Path(__file__).parents[1].rglob("*.py")
    tests = [
        x.read_text() for x in files if x != Path(__file__) and (x.name.startswith("test_") or "hostile" in x.parts)
    ]
    assert [key for key in sorted(added - CASES.keys()) if not any(key in text for text in tests)] == []


def make_cfg(key: str, options: dict[str, Any]) -> CfgNode:
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    merge_config(cfg, SHAPES[key.split(".")[1]], [x for option in {**BASE, **options}.items() for x in option])
    cfg.MODEL.DEVICE = "cpu"
    return cfg


def batch() -> list[dict[str, Any]]:
    """An image with five objects, the last of which is a crowd."""
    boxes = torch.tensor([[4.0, 8, 44, 60], [30, 20, 100, 70], [80, 4, 120, 40], [70, 60, 120, 92], [0, 0, 64, 48]])
    masks = torch.zeros(len(boxes), 96, 128, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y0:y1, x0:x1] = True
    gt = Instances((96, 128), gt_boxes=Boxes(boxes), gt_masks=BitMasks(masks), gt_classes=torch.arange(len(boxes)) % 3)
    gt.gt_is_crowd = torch.arange(len(boxes)) == len(boxes) - 1
    image = torch.randint(0, 256, (3, 96, 128), generator=torch.Generator().manual_seed(0))
    return [{"image": image, "instances": gt}]


def networks(cfg: CfgNode) -> dict[str, Any]:
    """Types of the modules, shapes of the parameters, and outputs of the backbone."""
    with torch.device("meta"):
        meta = cfg.clone()
        meta.MODEL.DEVICE = "meta"
        model = build_model(meta)
        outputs = getattr(build_backbone(meta), "bottom_up", model).output_shape()
    types = {name: type(module).__name__ for name, module in model.named_modules()}
    return {**types, **{name: value.shape for name, value in model.state_dict().items()}, "outputs": outputs}


def initial(text: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model(CfgNode.load_cfg(text))


@lru_cache(maxsize=8)
def build(text: str) -> torch.nn.Module:
    """A model whose heads have larger random weights than at initialization, so that detections differ and overlap."""
    model = initial(text)
    for name, weight in model.named_parameters():
        if weight.ndim > 1 and not name.startswith("backbone."):
            torch.nn.init.kaiming_normal_(weight)
        elif name.endswith("fcos_head.bbox_pred.bias"):
            torch.nn.init.constant_(weight, 3.0)  # boxes of six strides, which overlap
    return model


def find_losses(model: torch.nn.Module) -> dict[str, float]:
    torch.manual_seed(0)
    with EventStorage():
        return {name: loss.item() for name, loss in model.train()(batch()).items()}


def find_proposals(model: torch.nn.Module) -> list[Any]:
    inputs = batch()
    images = model.preprocess_image(inputs)
    with torch.no_grad(), EventStorage():
        gt_instances = [x["instances"] for x in inputs]
        found = model.train().proposal_generator(images, model.backbone(images.tensor), gt_instances)[0][0]
    return [found.objectness_logits.tolist(), found.proposal_boxes.tensor.tolist()]


def find_detections(model: torch.nn.Module) -> list[Any]:
    with torch.no_grad():
        found = model.eval()(batch())[0]["instances"]
    if not len(found):
        return []
    areas, scores = found.pred_masks.flatten(1).sum(1), found.mask_scores if found.has("mask_scores") else found.scores
    return [x.tolist() for x in (found.scores, found.pred_boxes.tensor, areas, scores)]


@lru_cache
def observe(stage: str, text: str) -> Any:
    """What a stage of a model is: something that can be compared."""
    if stage == "networks":
        return networks(CfgNode.load_cfg(text))
    if stage == "initialization":
        return {name: value.double().sum().item() for name, value in initial(text).state_dict().items()}
    return {"losses": find_losses, "proposals": find_proposals, "detections": find_detections}[stage](build(text))


@pytest.mark.parametrize("key", CASES)
def test_option_has_its_effect(key):
    case = CASES[key]
    plain = make_cfg(key, case.others).dump()
    changed = make_cfg(key, {**case.others, key: case.value}).dump()
    if case.changes not in ("networks", "initialization"):
        assert observe("initialization", plain) == observe("initialization", changed)
    before, after = (observe(case.changes, text) for text in (plain, changed))
    assert before != after and len(before)
