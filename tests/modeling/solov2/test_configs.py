"""Every published SOLOv2 builds from its config, with the published sizes."""

from __future__ import annotations

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model

from centermask_solo import add_centermask_solo_config
from centermask_solo.config import default_config
from centermask_solo.modeling.layers import DeformConv2d
from centermask_solo.training.optimizer import build_optimizer
from tests.modeling.solov2.tiny import CONFIGS

RANGES = {
    "A": ((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048)),
    "B": ((1, 56), (28, 112), (56, 224), (112, 448), (224, 896)),
    "C": ((1, 64), (32, 128), (64, 256), (128, 512), (256, 2048)),
}
FULL, LIGHT = (4, 512, 256, "A"), (2, 256, 128, "B")  # convolutions a tower, their width, E, scale ranges
# name: the above, and the deformable convolutions of both towers and of the mask head
PUBLISHED = {
    "solov2_R_50_1x": (*FULL, 0, 0),
    "solov2_R_50_3x": (*FULL, 0, 0),
    "solov2_R_101_3x": (*FULL, 0, 0),
    "solov2_R_50_rgb_1x": (*FULL, 0, 0),
    "solov2_R_50_rgb_3x": (*FULL, 0, 0),
    "solov2_R_101_rgb_3x": (*FULL, 0, 0),
    "solov2_R_50_syncbn_1x": (*FULL, 0, 0),
    "solov2_R_101_dcn_3x": (*FULL, 8, 8),
    "solov2_X_101_dcn_3x": (*FULL, 8, 8),
    "solov2_R_18_light448_3x": (*LIGHT, 0, 0),
    "solov2_R_34_light448_3x": (*LIGHT, 0, 0),
    "solov2_R_50_light448_3x": (*LIGHT, 0, 0),
    "solov2_R_50_light512_dcn_3x": (3, 256, 128, "C", 2, 0),
    "solov2_R_50_vd_light512_dcn_enhanced_3x": (3, 256, 128, "C", 2, 0),
}


def build(name):
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.merge_from_file(str(CONFIGS / f"{name}.yaml"))
    cfg.MODEL.DEVICE = "meta"  # shapes without numbers
    with torch.device("meta"):
        return build_model(cfg)


def test_all_configs_are_listed():
    assert {path.stem for path in CONFIGS.glob("solov2_*.yaml")} == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_heads_have_the_published_sizes(name):
    convs, width, kernel_length, ranges, deformable_towers, deformable_mask = PUBLISHED[name]
    model = build(name)
    shapes = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    for tower, first in (("cate", 256), ("kernel", 258)):
        weights = [shapes[f"ins_head.{tower}_tower.{3 * i}.weight"] for i in range(convs)]
        assert weights == [(width, first if i == 0 else width, 3, 3) for i in range(convs)]
        assert f"ins_head.{tower}_tower.{3 * convs}.weight" not in shapes
    assert shapes["ins_head.cate_pred.weight"] == (80, width, 3, 3)
    assert shapes["ins_head.kernel_pred.weight"] == (kernel_length, width, 3, 3)
    assert shapes["mask_head.conv_pred.0.weight"] == (kernel_length, 128, 1, 1)
    assert shapes["mask_head.convs_all_levels.3.conv0.0.weight"] == (128, 258, 3, 3)
    assert model.ins_head.num_grids == [40, 36, 24, 16, 12]
    assert tuple(model.scale_ranges) == RANGES[ranges]
    deformable = [sum(isinstance(m, DeformConv2d) for m in h.modules()) for h in (model.ins_head, model.mask_head)]
    assert deformable == [deformable_towers, deformable_mask]


def test_light_dcn_deforms_the_last_tower_convolution_in_the_first_version():
    shapes = {k: tuple(v.shape) for k, v in build("solov2_R_50_light512_dcn_3x").ins_head.state_dict().items()}
    offsets = {k: v for k, v in shapes.items() if k.endswith("conv_offset.weight")}
    expected = {f"{tower}_tower.6.conv_offset.weight": (18, 256, 3, 3) for tower in ("cate", "kernel")}
    assert offsets == expected


def test_the_enhanced_recipe_has_every_published_part():
    cfg = default_config()
    cfg.merge_from_file(str(CONFIGS / "solov2_R_50_vd_light512_dcn_enhanced_3x.yaml"))
    resnets, solov2, solver, images = cfg.MODEL.RESNETS, cfg.MODEL.SOLOV2, cfg.SOLVER, cfg.INPUT
    assert (resnets.DEPTH, resnets.STEM_TYPE, resnets.POOL_SHORTCUTS, resnets.NORM) == (50, "deep", True, "SyncBN")
    assert resnets.DEFORM_ON_PER_STAGE == [False, True, True, True] and resnets.DEFORM_MODULATED
    assert (solov2.NUM_INSTANCE_CONVS, solov2.INSTANCE_CHANNELS, solov2.NUM_MASKS, solov2.MASK_CHANNELS) == (
        3,
        256,
        128,
        128,
    )
    assert (solov2.DEFORM_IN_INSTANCE, solov2.DEFORM_MODULATED) == ("last", True) and solov2.DROP_BLOCK.PROB > 0
    assert (images.MIN_SIZE_TRAIN, images.MAX_SIZE_TRAIN) == ((352, 384, 416, 448, 480, 512), 852)
    assert (images.MIN_SIZE_TEST, images.MAX_SIZE_TEST) == (512, 852)
    assert [12 * step / solver.MAX_ITER for step in solver.STEPS] == [8, 11]  # 24 and 33 of 36 epochs
    assert cfg.MODEL.EMA.ENABLED and cfg.MODEL.EMA.DECAY == 0.9998

    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        model = build_model(cfg)
    names = {id(p): name for name, p in model.named_parameters()}
    groups = build_optimizer(cfg, model).param_groups
    rates = {names[id(p)]: group["lr"] / solver.BASE_LR for group in groups for p in group["params"]}
    assert rates.keys() == set(names.values())  # nothing is frozen
    parts = {"stem": 0.05, "res2": 0.05, "res3": 0.05, "res4": 0.1, "res5": 0.15}
    for name, rate in rates.items():
        part = name.removeprefix("backbone.bottom_up.").split(".")[0]
        assert rate == pytest.approx(parts.get(part, 1.0)), name
