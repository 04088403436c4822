import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import build_backbone
from torch import nn

from centermask_solo import add_centermask_solo_config
from centermask_solo.modeling.backbone.mobilenet import MobileNetV2
from centermask_solo.utils.errors import ConfigError

ALL = ["res2", "res3", "res4", "res5"]


def test_outputs_are_the_linear_ones():
    model = MobileNetV2(out_features=ALL).eval()
    assert {k: (v.channels, v.stride) for k, v in model.output_shape().items()} == {
        "res2": (24, 4),
        "res3": (32, 8),
        "res4": (96, 16),
        "res5": (320, 32),
    }
    with torch.no_grad():
        out = model(torch.randn(1, 3, 64, 96))
    assert {k: tuple(v.shape) for k, v in out.items()} == {
        "res2": (1, 24, 16, 24),
        "res3": (1, 32, 8, 12),
        "res4": (1, 96, 4, 6),
        "res5": (1, 320, 2, 3),
    }
    assert all(feature.min() < 0 for feature in out.values())


def test_keys():
    model = MobileNetV2(out_features=ALL)
    state = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    bn = ("weight", "bias", "running_mean", "running_var")
    assert len(state) == 51 * 5
    expected = {
        "features.0.0.weight": (32, 3, 3, 3),
        "features.1.conv.0.weight": (32, 1, 3, 3),
        "features.1.conv.3.weight": (16, 32, 1, 1),
        "features.2.conv.0.weight": (96, 16, 1, 1),
        "features.2.conv.3.weight": (96, 1, 3, 3),
        "features.2.conv.6.weight": (24, 96, 1, 1),
        "features.17.conv.6.weight": (320, 960, 1, 1),
        **{f"features.0.1.{k}": (32,) for k in bn},
        **{f"features.1.conv.4.{k}": (16,) for k in bn},
        **{f"features.17.conv.7.{k}": (320,) for k in bn},
    }
    assert expected.items() <= state.items()
    # the bottom-up part of CenterMask-Lite Mv2, published as 1.843 M values
    assert round(sum(v.numel() for v in model.state_dict().values()) / 1e6, 3) == 1.843


def test_skip_connections():
    """Where stride is 1 and the channels stay: repeats of a row, never its first block."""
    model = MobileNetV2(out_features=ALL)
    assert [i for i, m in enumerate(model.features) if getattr(m, "skip", False)] == [3, 5, 6, 8, 9, 10, 12, 13, 15, 16]
    block = model.features[3].eval()
    nn.init.zeros_(block.conv[6].weight)
    x = torch.randn(1, 24, 5, 5)
    torch.testing.assert_close(block(x), x)


def test_initialization_by_output_channels():
    torch.manual_seed(0)
    conv = MobileNetV2(out_features=ALL).features[15].conv[3]  # depthwise
    assert conv.groups == 960
    assert conv.weight.std().item() == pytest.approx((2 / (9 * 960)) ** 0.5, rel=0.03)


def test_nothing_unused_is_built():
    model = MobileNetV2(out_features=["res4", "res3"]).eval()
    assert len(model.features) == 14
    with torch.no_grad():
        assert list(model(torch.randn(1, 3, 32, 32))) == ["res3", "res4"]


@pytest.mark.parametrize("freeze_at", [-1, 0, 3])
def test_freezing(freeze_at):
    model = MobileNetV2(out_features=["res4"], norm="BN", freeze_at=freeze_at)
    for i, module in enumerate(model.features):
        frozen = i < freeze_at
        assert all(p.requires_grad is not frozen for p in module.parameters())
        norms = [m for m in module.modules() if isinstance(m, (nn.BatchNorm2d, FrozenBatchNorm2d))]
        assert norms and all(isinstance(m, FrozenBatchNorm2d) is frozen for m in norms)


@pytest.mark.parametrize(
    ("name", "levels"),
    [
        ("build_mobilenetv2_fpn_backbone", ["p2", "p3", "p4", "p5", "p6"]),
        ("build_fcos_mobilenetv2_fpn_backbone", ["p3", "p4", "p5", "p6", "p7"]),
    ],
)
def test_fpn_builders(name, levels):
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.MODEL.BACKBONE.NAME = name
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ALL if levels[0] == "p2" else ALL[1:]
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    cfg.MODEL.MOBILENETV2.NORM = "BN"
    fpn = build_backbone(cfg, ShapeSpec(channels=3)).train()
    out = fpn(torch.randn(2, 3, 64, 64))
    assert list(out) == levels and all(v.shape[1] == 16 for v in out.values())
    sum(v.square().sum() for v in out.values()).backward()
    assert all(p.grad is not None for p in fpn.parameters())


def test_impossible_options_are_named():
    with pytest.raises(ConfigError, match="gives res2, res3, res4, res5, not stage2, res3"):
        MobileNetV2(out_features=["stage2", "res3"])
    with pytest.raises(ConfigError, match="not none"):
        MobileNetV2(out_features=[])
    with pytest.raises(ConfigError, match=r"MOBILENETV2.NORM must be one of .* not 'GN'"):
        MobileNetV2(out_features=ALL, norm="GN")
