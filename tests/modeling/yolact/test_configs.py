"""The published recipe of every YOLACT config, and what it becomes on another number of GPUs or images."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.engine import DefaultTrainer
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler
from torch import nn

from centermask_solo import add_centermask_solo_config
from centermask_solo.training.optimizer import build_optimizer

CONFIGS = Path(__file__).parents[3] / "configs" / "YOLACT"
NAMES = sorted(path.stem for path in CONFIGS.glob("yolact_*.yaml"))
STEPS = {"coco": ((280_000, 600_000, 700_000, 750_000), 800_000), "pascal": ((60_000, 100_000), 120_000)}


def read(name: str, *overrides: object) -> CfgNode:
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.merge_from_file(str(CONFIGS / f"{name}.yaml"))
    cfg.merge_from_list(list(overrides))
    return cfg


def build(cfg: CfgNode) -> nn.Module:
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        return build_model(cfg).train()


def learning_rates(cfg: CfgNode, *iterations: int) -> list[float]:
    """Of the whole schedule, at some iterations."""
    scheduler = build_lr_scheduler(cfg, torch.optim.SGD([nn.Parameter(torch.zeros(1))], cfg.SOLVER.BASE_LR))
    rates = []
    for scheduler.last_epoch in iterations:
        rates += scheduler.get_lr()
    return rates


@pytest.mark.parametrize("name", NAMES)
def test_the_recipe_is_the_published_one(name):
    cfg = read(name)
    steps, end = STEPS["pascal" if "pascal" in name else "coco"]
    assert (steps, end) == (cfg.SOLVER.STEPS, cfg.SOLVER.MAX_ITER)
    assert (cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.REFERENCE_WORLD_SIZE, cfg.SOLVER.OPTIMIZER) == (8, 1, "SGD")
    assert not cfg.SOLVER.CLIP_GRADIENTS.ENABLED
    assert learning_rates(cfg, 0, 250, 500, steps[0] - 1) == pytest.approx([1e-4, 5.5e-4, 1e-3, 1e-3])
    assert learning_rates(cfg, *steps) == pytest.approx([1e-3 * 0.1 ** (i + 1) for i in range(len(steps))])
    assert (cfg.INPUT.AUGMENTATION, cfg.INPUT.KEEP_CROWDS, cfg.INPUT.RANDOM_FLIP) == ("ssd", True, "horizontal")
    assert cfg.INPUT.SSD == {"PHOTOMETRIC": True, "MAX_EXPAND": 4.0, "MIN_CROP": 0.3}
    assert (cfg.INPUT.FORMAT, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MIN_BOX_SIZE) == ("RGB", 0, 0)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_trained_and_decays(name):
    """The norms' and the biases' too, with one rate for all."""
    cfg = read(name)
    model = build(cfg)
    optimizer = build_optimizer(cfg, model)
    assert type(optimizer) is torch.optim.SGD
    groups = optimizer.param_groups
    assert {(g["lr"], g["weight_decay"], g["momentum"], g["nesterov"]) for g in groups} == {(1e-3, 5e-4, 0.9, False)}
    trained = {id(p) for g in groups for p in g["params"]}
    assert trained == {id(p) for p in model.parameters()}


def norms(cfg: CfgNode) -> set[type]:
    """The kinds of normalization in the model; those that train have parameters."""
    kinds = {type(m) for m in build(cfg).modules() if isinstance(m, (nn.BatchNorm2d, FrozenBatchNorm2d))}
    assert len(kinds) == 1
    return kinds


@pytest.mark.parametrize("name", NAMES)
def test_batch_norm_is_trained_from_six_images_of_a_process_on(name, monkeypatch):
    by_hand = ("SOLVER.REFERENCE_WORLD_SIZE", 0, "SOLVER.IMS_PER_BATCH")
    assert norms(read(name)) == {nn.BatchNorm2d}
    assert norms(read(name, *by_hand, 6)) == {nn.BatchNorm2d}
    assert norms(read(name, *by_hand, 5)) == {FrozenBatchNorm2d}
    monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: 2)
    scaled = DefaultTrainer.auto_scale_workers(read(name), 2)
    assert norms(scaled) == {nn.BatchNorm2d}  # 8 images of each process
    assert norms(read(name, *by_hand, 8)) == {FrozenBatchNorm2d}  # 4 of each


@pytest.mark.parametrize("name", NAMES)
def test_two_gpus_take_twice_the_images_and_the_rate_in_half_the_iterations(name):
    one, two = read(name).SOLVER, DefaultTrainer.auto_scale_workers(read(name), 2).SOLVER
    assert (two.IMS_PER_BATCH, two.BASE_LR, two.REFERENCE_WORLD_SIZE) == (16, 2e-3, 2)
    assert (one.MAX_ITER // 2, tuple(step // 2 for step in one.STEPS)) == (two.MAX_ITER, two.STEPS)
    assert two.WARMUP_ITERS == 250


@pytest.mark.parametrize("name", [name for name in NAMES if "plus" in name])
def test_yolact_plus_has_three_scales_of_anchors_a_level(name):
    sizes = read(name).MODEL.ANCHOR_GENERATOR.SIZES
    assert [b / a for level in sizes for a, b in itertools.pairwise(level)] == pytest.approx([2 ** (1 / 3)] * 10)
