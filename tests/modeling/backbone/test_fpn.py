import pytest
import torch
import torch.nn.functional as F
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from torch import nn

from centermask_solo import add_centermask_solo_config
from centermask_solo.modeling.backbone.fpn import LastLevelSlices, subsample_by_slices
from centermask_solo.utils.errors import ConfigError


def fcos_cfg(top_levels: int, in_features=("res3", "res4", "res5")):
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.MODEL.BACKBONE.NAME = "build_fcos_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = 8
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 16
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 4
    cfg.MODEL.FPN.IN_FEATURES = list(in_features)
    cfg.MODEL.FPN.OUT_CHANNELS = 32
    cfg.MODEL.FCOS.TOP_LEVELS = top_levels
    return cfg


def build(cfg):
    return build_backbone(cfg, ShapeSpec(channels=3))


def test_p6_and_p7_come_from_the_p5_output():
    torch.manual_seed(0)
    fpn = build(fcos_cfg(2)).eval()
    assert {k: (s.channels, s.stride) for k, s in fpn.output_shape().items()} == {
        f"p{level}": (32, 2**level) for level in range(3, 8)
    }
    assert fpn.size_divisibility == 32
    with torch.no_grad():
        out = fpn(torch.randn(1, 3, 96, 160))
        p6 = F.conv2d(out["p5"], fpn.top_block.p6.weight, fpn.top_block.p6.bias, 2, 1)
        p7 = F.conv2d(p6.relu(), fpn.top_block.p7.weight, fpn.top_block.p7.bias, 2, 1)
    assert p6.min() < 0, "the ReLU before P7 would not be seen"
    torch.testing.assert_close(out["p6"], p6)
    torch.testing.assert_close(out["p7"], p7)
    sizes = {k: tuple(v.shape[-2:]) for k, v in out.items()}
    assert sizes == {"p3": (12, 20), "p4": (6, 10), "p5": (3, 5), "p6": (2, 3), "p7": (1, 2)}


@pytest.mark.parametrize(("top_levels", "names"), [(1, ["p3", "p4", "p5", "p6"]), (0, ["p3", "p4", "p5"])])
def test_fewer_top_levels(top_levels, names):
    fpn = build(fcos_cfg(top_levels)).eval()
    with torch.no_grad():
        out = fpn(torch.randn(1, 3, 64, 64))
    assert list(out) == list(fpn.output_shape()) == names
    assert [k for k in fpn.state_dict() if "top_block" in k] == ["top_block.p6.weight", "top_block.p6.bias"][
        : 2 * top_levels
    ]


def test_panoptic_has_p2_and_no_other_change():
    fpn = build(fcos_cfg(2, in_features=("res2", "res3", "res4", "res5")))
    assert list(fpn.output_shape()) == ["p2", "p3", "p4", "p5", "p6", "p7"]
    assert tuple(fpn.fpn_lateral2.weight.shape) == (32, 16, 1, 1)


def test_impossible_options_are_named():
    with pytest.raises(ConfigError, match=r"TOP_LEVELS must be 2 .* not 3"):
        build(fcos_cfg(3))
    cfg = fcos_cfg(2, in_features=("stage3", "stage4", "stage5"))
    with pytest.raises(ConfigError, match="names stage3, but the backbone gives res2, res3, res4, res5"):
        build(cfg)
    with pytest.raises(ConfigError, match=r"names \(nothing\)"):
        build(fcos_cfg(2, in_features=()))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_subsampled_p6_is_detectron2s(layout):
    cfg = fcos_cfg(2)
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    backbone = build(cfg)
    detectron2s = backbone.top_block
    assert subsample_by_slices(backbone) is backbone and backbone.top_block is not detectron2s
    assert (backbone.top_block.num_levels, backbone.top_block.in_feature) == (1, detectron2s.in_feature)
    for size in ((5, 7), (4, 6), (1, 2)):
        x = torch.randn(2, 3, *size).contiguous(memory_format=layout)
        (found,), (expected,) = backbone.top_block(x), detectron2s(x)
        assert torch.equal(found, expected) and found.stride() == expected.stride()
    others = build(fcos_cfg(2))
    top_block = others.top_block
    assert subsample_by_slices(others).top_block is top_block


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_subsampled_p6_is_exported_for_even_and_odd_sizes(layout):
    """A pooling is not by PyTorch 2.11, in whose programs sizes stay even, or odd."""

    class Levels(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.top_block = nn.Conv2d(3, 4, 3, padding=1).to(memory_format=layout), LastLevelSlices()

        def forward(self, x):
            p5 = self.conv(x)
            return F.interpolate(*self.top_block(p5), p5.shape[2:], mode="bilinear")

    levels, free = Levels(), torch.export.Dim.DYNAMIC
    sizes = ((2, 9, 12), (1, 8, 9), (3, 7, 7), (2, 6, 8))
    images = [torch.randn(n, 3, *size).contiguous(memory_format=layout) for n, *size in sizes]
    with torch.no_grad():
        program = torch.export.export(levels, (images[0],), dynamic_shapes=(dict.fromkeys((0, 2, 3), free),)).module()
        for x in images:
            torch.testing.assert_close(program(x), levels(x))


def yolact_fpn(**overrides):
    cfg = fcos_cfg(2)
    cfg.MODEL.BACKBONE.NAME = "build_resnet_yolact_fpn_backbone"
    cfg.MODEL.FPN.IN_FEATURES = overrides.get("in_features", cfg.MODEL.FPN.IN_FEATURES)
    torch.manual_seed(0)
    return build(cfg).eval()


def test_yolacts_pyramid_pads_nothing_and_enlarges_to_the_exact_size():
    fpn = yolact_fpn()
    assert fpn.size_divisibility == 0
    with torch.no_grad():
        x = torch.randn(1, 3, 140, 110)
        features, levels = fpn.bottom_up(x), fpn(x)
    assert [tuple(p.shape[2:]) for p in levels.values()] == [(18, 14), (9, 7), (5, 4), (3, 2), (2, 1)]
    assert {k: s.stride for k, s in fpn.output_shape().items()} == {f"p{i}": 2**i for i in range(3, 8)}
    with torch.no_grad():
        merged = fpn.fpn_lateral5(features["res5"])
        torch.testing.assert_close(levels["p5"], fpn.fpn_output5(merged).relu())
        for i in (4, 3):
            lateral = getattr(fpn, f"fpn_lateral{i}")(features[f"res{i}"])
            merged = lateral + F.interpolate(merged, lateral.shape[2:], mode="bilinear", align_corners=False)
            torch.testing.assert_close(levels[f"p{i}"], getattr(fpn, f"fpn_output{i}")(merged).relu())
        p6 = F.conv2d(levels["p5"], fpn.top_block.p6.weight, fpn.top_block.p6.bias, 2, 1)
        torch.testing.assert_close(levels["p6"], p6)
        p7 = F.conv2d(p6, fpn.top_block.p7.weight, fpn.top_block.p7.bias, 2, 1)
    assert p6.min() < 0, "a ReLU before P7 would not be seen"
    torch.testing.assert_close(levels["p7"], p7)


def test_yolacts_pyramid_starts_as_published():
    fpn = yolact_fpn()
    for conv in (fpn.fpn_lateral3, fpn.fpn_output5, fpn.top_block.p7):
        fans = conv.in_channels + conv.out_channels
        limit = (6 / (fans * conv.kernel_size[0] ** 2)) ** 0.5
        assert 0.9 * limit < conv.weight.abs().max() <= limit
        assert not conv.bias.any()


def test_yolacts_pyramid_names_features_that_are_missing():
    with pytest.raises(ConfigError, match=r"FPN\.IN_FEATURES names res6, but the backbone gives"):
        yolact_fpn(in_features=["res4", "res5", "res6"])
