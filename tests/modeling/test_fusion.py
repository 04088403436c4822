"""Fused models compute what they computed before."""

from typing import Any

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from torch import nn
from torch.utils._pytree import tree_leaves

from centermask_solo import add_centermask_solo_config
from centermask_solo.config import config_names, merge_config
from centermask_solo.modeling.fusion import _is_norm, fuse_norms
from centermask_solo.modeling.layers import DeformConv2d
from tests.modeling.models import SYSTEMS

NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, FrozenBatchNorm2d)
PARTS = ("RESNETS", "VOVNET", "MOBILENETV2", "DARKNET", "FPN", "BACKBONE")


def backbone_configs() -> dict[str, CfgNode]:
    """One config for every backbone of the published models, of its smallest depth."""
    configs: dict[str, CfgNode] = {}
    for name in (name for name in config_names() if not name.startswith("timm/")):  # which have a test of their own
        cfg = get_cfg()
        add_centermask_solo_config(cfg)
        merge_config(cfg, name, None)
        cfg.MODEL.RESNETS.DEPTH = 50 if cfg.MODEL.RESNETS.DEPTH > 50 else cfg.MODEL.RESNETS.DEPTH
        configs.setdefault(str([cfg.MODEL.get(part) for part in PARTS]), cfg)
    return {f"{i}-{cfg.MODEL.BACKBONE.NAME}": cfg for i, cfg in enumerate(configs.values())}


CONFIGS = backbone_configs()


def norms_of(model: nn.Module) -> list[Any]:
    """The batch norms of a model, with those of other libraries."""
    return [m for m in model.modules() if isinstance(m, NORMS) or _is_norm(m)]


def shake_norms(model: nn.Module) -> int:
    """Give every norm statistics and parameters of its own, with which activations keep their size; count them."""
    torch.manual_seed(1)
    norms = norms_of(model)
    for norm in norms:
        norm.running_mean.uniform_(-0.2, 0.2), norm.running_var.uniform_(0.5, 2)
        norm.weight.data.uniform_(0.5, 1.5), norm.bias.data.uniform_(-0.2, 0.2)
    return len(norms)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_every_backbone_computes_the_same_without_its_norms(name):
    """In float64, where rounding cannot hide a wrong formula."""
    cfg = CONFIGS[name]
    torch.manual_seed(0)
    backbone = BACKBONE_REGISTRY.get(cfg.MODEL.BACKBONE.NAME)(cfg, ShapeSpec(channels=3)).double().eval()
    for module in backbone.modules():
        if isinstance(module, DeformConv2d):
            nn.init.normal_(module.conv_offset.weight, std=0.01)
    count = shake_norms(backbone)
    x = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        expected = backbone(x)
        assert fuse_norms(backbone) == count > 10
        assert not norms_of(backbone)
        for key, value in backbone(x).items():
            assert (value - expected[key]).abs().max() < 1e-10 * expected[key].std()


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_fused_model_detects_the_same(system):
    model = SYSTEMS[system].model().eval()
    shake_norms(model)
    image = {"image": torch.randint(0, 256, (3, 64, 96), generator=torch.Generator().manual_seed(0)).float()}
    with torch.no_grad():
        expected = model([image])[0]["instances"]
        fuse_norms(model)
        got = model([image])[0]["instances"]
    assert len(got) == len(expected)
    torch.testing.assert_close(got.scores, expected.scores, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("system", SYSTEMS)
def test_networks_of_a_fused_model_compute_the_same(system):
    """Heads and all, in float64."""
    model = SYSTEMS[system].model().eval().double()
    shake_norms(model)
    images = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        before = tree_leaves(model.predict(images))
        assert fuse_norms(model) > 10
        after = tree_leaves(model.predict(images))
    assert not norms_of(model) and len(before) > 3
    for x, y in ((x, y) for x, y in zip(before, after, strict=True) if x is not None):
        assert (x - y).abs().max() <= 1e-8 * (x.max() - x.min()).clamp(min=1e-3)


def test_a_layout_and_a_bias_survive():
    layers = nn.Sequential(nn.Conv2d(3, 8, 3, bias=True), nn.BatchNorm2d(8), nn.ReLU()).eval()
    shake_norms(layers)
    layers.to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 9, 9)
    expected = layers(x)
    assert fuse_norms(layers) == 1
    assert layers[0].weight.is_contiguous(memory_format=torch.channels_last) and not layers[0].weight.requires_grad
    torch.testing.assert_close(layers(x), expected)


def test_norms_that_follow_nothing_or_something_else_stay():
    layers = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), nn.ReLU(), nn.BatchNorm2d(3), nn.GroupNorm(1, 3))
    assert fuse_norms(layers.eval()) == 0
    assert len(layers) == 5


def test_a_model_in_training_is_refused():
    with pytest.raises(ValueError, match=r"call model\.eval\(\) first"):
        fuse_norms(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)))
