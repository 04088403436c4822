"""Merge every config file and build its model on the meta device, which takes neither memory nor time."""

import re
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data.datasets.lvis_v1_categories import LVIS_CATEGORIES
from detectron2.modeling import build_model
from torch import nn

from centermask_solo import add_centermask_solo_config
from centermask_solo.config import value_of
from centermask_solo.modeling.option_scope import max_detections
from centermask_solo.modeling.systems import find_system
from centermask_solo.training.trainer import Trainer

CONFIGS = Path(__file__).parents[1] / "configs"
FILES = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.yaml"))
# Entries of the state dict and millions of values in the published models
SOLOV2_SIZES = {"solov2_R_50_3x": (333, 46.65), "solov2_R_101_3x": (588, 65.69), "solov2_R_101_rgb_3x": (588, 65.69)}
CENTERMASK_SIZES = {
    "centermask_R_50_FPN_ms_3x": (351, 51.334),
    "centermask_R_101_FPN_ms_3x": (606, 70.378),
    "centermask_X_101_FPN_ms_3x": (606, 114.718),
    "centermask_V_39_eSE_FPN_ms_3x": (293, 52.650),
    "centermask_V_57_eSE_FPN_ms_3x": (389, 68.932),
    "centermask_V_99_eSE_FPN_ms_3x": (613, 97.023),
    "centermask_V_39_eSE_dcn_FPN_ms_3x": (343, 54.423),
    "centermask_V_57_eSE_dcn_FPN_ms_3x": (469, 71.919),
    "centermask_V_99_eSE_dcn_FPN_ms_3x": (763, 102.437),
    "centermask_lite_V_39_eSE_FPN_ms_4x": (269, 35.150),
    "centermask_lite_V_19_eSE_FPN_ms_4x": (165, 20.136),
    "centermask_lite_V_19_slim_eSE_FPN_ms_4x": (165, 12.456),
    "centermask_lite_V_19_slim_dw_eSE_FPN_ms_4x": (194, 11.188),
    "centermask_lite_Mv2_FPN_ms_4x": (317, 11.551),
    "panoptic_centermask_R_50_FPN_ms_3x": (378, 53.621),
    "panoptic_centermask_R_101_FPN_ms_3x": (633, 72.665),
    "panoptic_centermask_X_101_FPN_ms_3x": (633, 117.005),
    "panoptic_centermask_V_39_eSE_FPN_ms_3x": (320, 54.936),
    "panoptic_centermask_V_57_eSE_FPN_ms_3x": (416, 71.218),
    "panoptic_centermask_V_99_eSE_FPN_ms_3x": (640, 99.310),
}
# Of the published models: millions of parameters, anchors per cell, input size, deformable convolutions
YOLACT_MODELS = {
    "yolact_resnet50": (31.16, 3, 550, 0),
    "yolact_darknet53": (47.78, 3, 550, 0),
    "yolact_base": (50.16, 3, 550, 0),
    "yolact_im400": (50.16, 3, 400, 0),
    "yolact_im700": (50.16, 3, 700, 0),
    "yolact_plus_resnet50": (33.77, 9, 550, 13),
    "yolact_plus_base": (52.57, 9, 550, 11),
    "yolact_resnet50_pascal": (30.73, 3, 550, 0),
}
LVIS = {  # the options that limit detections, and those of their thresholds
    "SOLOv2/lvis_solov2_R_50_3x": ("TEST.DETECTIONS_PER_IMAGE", "SOLOV2.SCORE_THRESH_TEST", "SOLOV2.NMS.SCORE_THRESH"),
    "SOLOv2/lvis_solov2_R_101_3x": ("TEST.DETECTIONS_PER_IMAGE", "SOLOV2.SCORE_THRESH_TEST", "SOLOV2.NMS.SCORE_THRESH"),
    "CenterMask/lvis_centermask_R_50_FPN_ms_3x": ("MODEL.FCOS.POST_NMS_TOPK_TEST", "FCOS.SCORE_THRESH_TEST"),
    "YOLACT/lvis_yolact_resnet50": ("TEST.DETECTIONS_PER_IMAGE", "YOLACT.SCORE_THRESH_TEST"),
}
# Deformable convolutions in the backbone and in the heads, and offset channels of the 3x3 ones
SOLOV2_DEFORMABLE = {
    "solov2_R_50_light512_dcn_3x": (4 + 6 + 3, 2, 18),
    "solov2_R_101_dcn_3x": (4 + 23 + 3, 4 + 4 + (1 + 1 + 2 + 3) + 1, 27),
    "solov2_X_101_dcn_3x": (4 + 23 + 3, 4 + 4 + (1 + 1 + 2 + 3) + 1, 27),
}
MAX_ITER = {"1x": (88_000, 90_000), "3x": (264_000, 270_000)}  # 12 and 36 epochs; or 90,000 and three times that


IMAGES_PER_GPU = {"CenterMask": (8, 2), "FCOS": (8, 2)}
IMAGES_PER_GPU |= {"SOLO": (8, 2), "SOLOv2": (8, 2), "baselines": (8, 2), "YOLACT": (1, 8)}


def read(name: str) -> CfgNode:
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.merge_from_file(str(CONFIGS / name))
    return cfg


def build(cfg: CfgNode) -> nn.Module:
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        return build_model(cfg)


@pytest.mark.parametrize("name", FILES)
def test_file_builds(name):
    if name.startswith("timm/"):
        pytest.importorskip("timm")
    cfg = read(name)
    assert cfg.INPUT.FORMAT in ("BGR", "RGB")
    # In photographs, blue is the darkest channel and red the brightest: the mean has the order of the channels
    mean, steps = cfg.MODEL.PIXEL_MEAN, cfg.SOLVER.STEPS
    assert mean[0] == mean[-1] or (mean[0] < mean[-1]) is (cfg.INPUT.FORMAT == "BGR")
    assert list(steps) == sorted(steps) and all(step < cfg.SOLVER.MAX_ITER for step in steps)
    if "Base" not in name:
        assert sum(p.numel() for p in build(cfg).parameters()) > 0


@pytest.mark.parametrize("name", [f for f in FILES if "Base" not in f])
def test_every_published_config_scales_to_one_gpu_by_one_rule(name):
    cfg = read(name)
    published, folder = cfg.clone().SOLVER, name.split("/")[0]
    one = Trainer.auto_scale_workers(cfg, 1)
    if folder in ("shapes", "photos"):
        assert published.REFERENCE_WORLD_SIZE == 0 and published == one.SOLVER
        return
    num_gpus, images = IMAGES_PER_GPU[cfg.MODEL.META_ARCHITECTURE if folder == "timm" else folder]
    assert (num_gpus, num_gpus * images) == (published.REFERENCE_WORLD_SIZE, published.IMS_PER_BATCH)
    assert (images, published.BASE_LR / num_gpus) == (one.SOLVER.IMS_PER_BATCH, one.SOLVER.BASE_LR)
    for key in ("MAX_ITER", "WARMUP_ITERS", "CHECKPOINT_PERIOD"):
        assert one.SOLVER[key] == num_gpus * published[key], key
    assert tuple(num_gpus * step for step in published.STEPS) == one.SOLVER.STEPS
    assert one.SOLVER.WARMUP_ITERS < one.SOLVER.MAX_ITER / 10


@pytest.mark.parametrize("name", [f.removesuffix(".yaml") for f in FILES if f.startswith("SOLO") and "Base" not in f])
def test_solo_and_solov2_file_names_match_the_model(name):
    cfg = read(f"{name}.yaml")
    words = name.split("_")
    assert words[-3 - sum(x.startswith(("light", "dcn", "rgb", "syncbn", "vd", "enhanced")) for x in words)] in (
        "R",
        "X",
    )
    assert str(cfg.MODEL.RESNETS.DEPTH) in words
    assert ("decoupled" in name) is cfg.MODEL.SOLO.HEAD.startswith("decoupled")
    if words[-1] in MAX_ITER:
        low, high = MAX_ITER[words[-1]]
        assert low <= cfg.SOLVER.MAX_ITER <= high
    assert any(cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE) is ("dcn" in words)
    light = re.search(r"light(\d+)", name)
    if light:
        size = int(light.group(1))
        node = cfg.MODEL[cfg.MODEL.META_ARCHITECTURE.upper()]
        assert cfg.INPUT.MIN_SIZE_TEST == node.SCALE_RANGES[3][1] == size


@pytest.mark.parametrize("name", SOLOV2_SIZES)
def test_solov2_has_the_published_size(name):
    state = build(read(f"SOLOv2/{name}.yaml")).state_dict()
    entries, millions = SOLOV2_SIZES[name]
    assert len(state) == entries
    assert round(sum(v.numel() for v in state.values()) / 1e6, 2) == millions


@pytest.mark.parametrize("name", CENTERMASK_SIZES)
def test_centermask_has_the_published_size(name):
    state = build(read(f"CenterMask/{name}.yaml")).state_dict()
    entries, millions = CENTERMASK_SIZES[name]
    assert len(state) == entries
    assert round(sum(v.numel() for v in state.values()) / 1e6, 3) == millions


@pytest.mark.parametrize("name", SOLOV2_DEFORMABLE)
def test_solov2_deformable_convolutions(name):
    state = build(read(f"SOLOv2/{name}.yaml")).state_dict()
    in_backbone, in_heads, channels = SOLOV2_DEFORMABLE[name]
    offsets = {k: tuple(v.shape) for k, v in state.items() if k.endswith("offset.weight")}
    assert sum(k.startswith("backbone.bottom_up.res") for k in offsets) == in_backbone
    heads = {k: shape for k, shape in offsets.items() if not k.startswith("backbone")}
    assert len(heads) == in_heads
    assert {shape[0] for shape in offsets.values() if shape[-1] == 3} == {channels}
    assert heads.get("mask_head.conv_pred.0.conv_offset.weight") == ((3, 128, 1, 1) if in_heads > 2 else None)


@pytest.mark.parametrize("name", LVIS)
def test_lvis_differs_from_coco_in_data_classes_and_detections(name):
    cfg, coco = read(f"{name}.yaml"), read(f"{name.replace('lvis_', '')}.yaml")
    limit, *thresholds = LVIS[name]
    assert value_of(cfg, limit) == max_detections(cfg) == 300
    assert [value_of(cfg, f"MODEL.{key}") for key in thresholds] == [0.0001] * len(thresholds)
    assert value_of(cfg, find_system(cfg.MODEL.META_ARCHITECTURE).num_classes_key) == len(LVIS_CATEGORIES) == 1203
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (("lvis_v1_train",), ("lvis_v1_val",))
    assert cfg.DATALOADER.SAMPLER_TRAIN == "RepeatFactorTrainingSampler" and cfg.DATALOADER.REPEAT_THRESHOLD == 0.001
    assert (cfg.SOLVER, cfg.INPUT, cfg.MODEL.WEIGHTS) == (coco.SOLVER, coco.INPUT, coco.MODEL.WEIGHTS)


@pytest.mark.parametrize("depth", [50, 101])
def test_panoptic_solov2_is_solov2_and_detectron2s_semantic_head(depth):
    cfg, instances = read(f"SOLOv2/panoptic_solov2_R_{depth}_3x.yaml"), read(f"SOLOv2/solov2_R_{depth}_3x.yaml")
    fpn = read("baselines/panoptic_fpn_R_50_3x.yaml")
    assert (cfg.SOLVER, cfg.INPUT, cfg.MODEL.SOLOV2) == (instances.SOLVER, instances.INPUT, instances.MODEL.SOLOV2)
    for group in ("SEM_SEG_HEAD", "PANOPTIC_FPN"):
        assert cfg.MODEL[group] == fpn.MODEL[group]
    assert (cfg.DATASETS, cfg.DATALOADER) == (fpn.DATASETS, fpn.DATALOADER)
    shapes = {k: v.shape for k, v in build(cfg).state_dict().items()}
    both = {**{k: v.shape for k, v in build(instances).state_dict().items()}}
    both |= {k: v.shape for k, v in build(fpn).state_dict().items() if k.startswith("sem_seg_head.")}
    assert shapes == both


def test_x101_is_64x4d():
    state = build(read("SOLOv2/solov2_X_101_dcn_3x.yaml")).state_dict()
    assert tuple(state["backbone.bottom_up.res3.0.conv2.weight"].shape) == (512, 8, 3, 3)
    assert tuple(state["backbone.bottom_up.res3.0.conv2_offset.weight"].shape) == (27, 512, 3, 3)


def test_light_models_have_stride_2_in_the_3x3_convolution():
    for name in ("solov2_R_50_light448_3x", "solov2_R_50_light512_dcn_3x"):
        model = build(read(f"SOLOv2/{name}.yaml"))
        block = model.backbone.bottom_up.res3[0]
        assert block.conv1.stride == (1, 1) and block.conv2.stride == (2, 2)
        assert model.state_dict()["ins_head.kernel_pred.weight"].shape[:2] == (128, 256)


@pytest.mark.parametrize("name", YOLACT_MODELS)
def test_yolact_models_match_the_published_ones(name):
    cfg = read(f"YOLACT/{name}.yaml")
    cfg.MODEL.RESNETS.NORM = cfg.MODEL.DARKNET.NORM = "BN"  # the published counts include its parameters
    model = build(cfg)
    millions, num_anchors, size, num_deformable = YOLACT_MODELS[name]
    # The published counts include biases of deformable convolutions, which are folded into the norms here
    offsets = [m for n, m in model.named_modules() if n.endswith("conv2_offset")]
    biases = sum(m.in_channels for m in offsets)
    assert len(offsets) == num_deformable
    assert round((sum(p.numel() for p in model.parameters()) + biases) / 1e6, 2) == millions
    assert model.head.num_anchors == num_anchors and model.input_size == (size, size)
    sides = [x[0] for x in cfg.MODEL.ANCHOR_GENERATOR.SIZES]
    base = (32, 64, 128, 256, 512) if "pascal" in name else (24, 48, 96, 192, 384)
    assert sides == [int(s * size / 550) for s in base]
    assert cfg.MODEL.YOLACT.SQUARE_ANCHORS is ("plus" not in name and "pascal" not in name)
    assert cfg.MODEL.YOLACT.MASK_IOU.ENABLED is ("plus" in name)
    assert (300 if name == "yolact_im700" else 100) == cfg.MODEL.YOLACT.MASKS_TO_TRAIN
