import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import build_backbone
from torch import nn

from centermask_solo import add_centermask_solo_config
from centermask_solo.modeling.backbone.resnet import DeformBottleneckBlock, FixedStatsBatchNorm2d
from centermask_solo.modeling.fusion import fuse_norms
from centermask_solo.utils.errors import ConfigError


def resnet_cfg(**resnets) -> CfgNode:
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.MODEL.BACKBONE.NAME = "build_deform_resnet_backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    for key, value in resnets.items():
        cfg.MODEL.RESNETS[key] = value
    return cfg


def build(cfg: CfgNode) -> nn.Module:
    return build_backbone(cfg, ShapeSpec(channels=3))


DEFORM = {"DEFORM_ON_PER_STAGE": [False, True, True, True]}
THIN = {"STEM_OUT_CHANNELS": 8, "RES2_OUT_CHANNELS": 16, "WIDTH_PER_GROUP": 4}


def randomize(model: nn.Module) -> None:
    """Values under which every block's output depends on its input, statistics included."""
    torch.manual_seed(0)
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif tensor.dtype.is_floating_point and "offset" not in name:
            tensor.normal_(std=0.2)


@pytest.mark.parametrize(("modulated", "channels"), [(False, 18), (True, 27)])
def test_deformable_keys_and_shapes_are_detectron2s(modulated, channels):
    with torch.device("meta"):
        plain = build(resnet_cfg(DEPTH=50)).state_dict()
        deformable = build(resnet_cfg(DEPTH=50, DEFORM_MODULATED=modulated, **DEFORM)).state_dict()
    shapes = {k: tuple(v.shape) for k, v in deformable.items()}
    for key, value in plain.items():  # res3.0.conv2.weight, res3.0.conv2.norm.weight and so on
        assert shapes.pop(key) == tuple(value.shape)
    expected = {}
    for stage, width, blocks in ((3, 128, 4), (4, 256, 6), (5, 512, 3)):
        for b in range(blocks):
            expected[f"res{stage}.{b}.conv2_offset.weight"] = (channels, width, 3, 3)
            expected[f"res{stage}.{b}.conv2_offset.bias"] = (channels,)
    assert shapes == expected


@pytest.mark.parametrize("options", [{}, {"STRIDE_IN_1X1": False}, {"NUM_GROUPS": 2}, {"RES5_DILATION": 2}])
def test_zero_offsets_give_the_plain_resnet(options):
    """DCN v1 without offsets is a convolution: the same weights give the same features."""
    options = {"DEPTH": 50, **THIN, **options}
    plain, deformable = build(resnet_cfg(**options)), build(resnet_cfg(**options, **DEFORM))
    randomize(plain)
    missing, unexpected = deformable.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected and all("conv2_offset" in k for k in missing)
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected, actual = plain.eval()(x), deformable.eval()(x)
    assert list(actual) == ["res2", "res3", "res4", "res5"]
    for name, feature in actual.items():
        torch.testing.assert_close(feature, expected[name], rtol=1e-4, atol=1e-4)
    # and with an offset they differ, from the first deformable stage on
    nn.init.constant_(deformable.res3[0].conv2_offset.bias, 0.7)
    with torch.no_grad():
        moved = deformable(x)
    assert torch.equal(moved["res2"], actual["res2"]) and not torch.allclose(moved["res3"], actual["res3"])


def test_modulated_half_masks_are_half_the_convolution():
    options = {"DEPTH": 50, **THIN, "STRIDE_IN_1X1": False}
    plain = build(resnet_cfg(**options))
    deformable = build(resnet_cfg(**options, DEFORM_MODULATED=True, DEFORM_NUM_GROUPS=2, **DEFORM))
    randomize(plain)
    assert deformable.res4[1].conv2_offset.out_channels == 54
    deformable.load_state_dict(plain.state_dict(), strict=False)
    for name, tensor in plain.state_dict().items():
        if name.endswith("conv2.weight") and not name.startswith("res2"):
            tensor.mul_(0.5)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(deformable.eval()(x)["res5"], plain.eval()(x)["res5"], rtol=1e-4, atol=1e-4)


RESNET_D = {"STEM_TYPE": "deep", "POOL_SHORTCUTS": True, "STRIDE_IN_1X1": False}


def test_a_deep_stem_is_three_convolutions_of_3x3():
    resnet = build(resnet_cfg(DEPTH=50, STEM_TYPE="deep", NORM="BN", **THIN))
    shapes = {key: tuple(x.shape) for key, x in resnet.stem.state_dict().items() if key.endswith("v1.weight")}
    assert shapes == {"conv1.weight": (4, 3, 3, 3)}
    assert [tuple(conv.weight.shape[:2]) for conv in resnet.stem.children()] == [(4, 3), (4, 4), (8, 4)]
    x = torch.randn(1, 3, 33, 47)
    expected = x
    for conv, stride in zip(resnet.stem.eval().children(), (2, 1, 1), strict=True):
        expected = conv.norm(nn.functional.conv2d(expected, conv.weight, stride=stride, padding=1)).relu()
    expected = nn.functional.max_pool2d(expected, 3, stride=2, padding=1)
    torch.testing.assert_close(resnet.stem(x), expected)
    assert resnet.stem(x).shape[2:] == (9, 12)


def test_pooled_shortcuts_average_before_they_project():
    resnet = build(resnet_cfg(DEPTH=50, NORM="FrozenBN", POOL_SHORTCUTS=True, STRIDE_IN_1X1=False, **THIN))
    plain = build(resnet_cfg(DEPTH=50, NORM="FrozenBN", STRIDE_IN_1X1=False, **THIN))
    assert resnet.state_dict().keys() == plain.state_dict().keys()
    assert type(resnet.res2[0].shortcut) is type(plain.res2[0].shortcut)  # of stride 1
    shortcut = resnet.res3[0].shortcut
    x = torch.randn(1, shortcut.in_channels, 3, 4)
    means = torch.stack([x[..., :2, :2].mean((2, 3)), x[..., :2, 2:].mean((2, 3)), x[..., 2:, :2].mean((2, 3))], dim=2)
    means = torch.cat([means, x[..., 2:, 2:].mean((2, 3))[..., None]], dim=2).view(1, -1, 2, 2)  # the last row has one
    torch.testing.assert_close(shortcut(x), shortcut.norm(nn.functional.conv2d(means, shortcut.weight)))


def test_resnet_d_is_deformable_frozen_and_fused_like_any_other():
    cfg = resnet_cfg(DEPTH=50, NORM="BN", DEFORM_MODULATED=True, **RESNET_D, **THIN, **DEFORM)
    cfg.MODEL.BACKBONE.FREEZE_AT = 2
    resnet = build(cfg).double()
    assert not any(p.requires_grad for p in (*resnet.stem.parameters(), *resnet.res2.parameters()))
    assert isinstance(resnet.stem.conv3.norm, FrozenBatchNorm2d) and isinstance(
        resnet.res3[0].shortcut.norm, nn.BatchNorm2d
    )
    randomize(resnet)
    count = sum(isinstance(m, (nn.BatchNorm2d, FrozenBatchNorm2d)) for m in resnet.modules())
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        expected = resnet.eval()(x)["res5"]
        assert fuse_norms(resnet) == count == 3 + 16 * 3 + 4
        torch.testing.assert_close(resnet(x)["res5"], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("freeze_at", [0, 2, 3, 5])
def test_freezing_covers_offsets(freeze_at):
    cfg = resnet_cfg(DEPTH=50, NORM="BN", DEFORM_MODULATED=True, **THIN, **DEFORM)
    cfg.MODEL.BACKBONE.FREEZE_AT = freeze_at
    resnet = build(cfg)
    for number, name in enumerate(("stem", "res2", "res3", "res4", "res5"), start=1):
        part = getattr(resnet, name)
        frozen = number <= freeze_at
        assert all(p.requires_grad is not frozen for p in part.parameters()), name
        norms = [m for m in part.modules() if isinstance(m, (nn.BatchNorm2d, FrozenBatchNorm2d))]
        assert norms and all(isinstance(m, FrozenBatchNorm2d) is frozen for m in norms), name
        assert any(isinstance(m, DeformBottleneckBlock) for m in part.modules()) is (number >= 3)


def test_gradients_reach_offsets_through_frozen_norms():
    resnet = build(resnet_cfg(DEPTH=50, DEFORM_MODULATED=True, **THIN, **DEFORM)).train()
    resnet(torch.randn(1, 3, 64, 64))["res5"].square().sum().backward()
    for name, parameter in resnet.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert resnet.res5[2].conv2_offset.weight.grad.abs().sum() > 0


def test_without_deformable_stages_it_is_detectron2s():
    ours, theirs = resnet_cfg(DEPTH=18, RES2_OUT_CHANNELS=64), resnet_cfg(DEPTH=18, RES2_OUT_CHANNELS=64)
    theirs.MODEL.BACKBONE.NAME = "build_resnet_backbone"
    with torch.device("meta"):
        a, b = build(ours), build(theirs)
    assert str(a) == str(b)
    assert [p.requires_grad for p in a.parameters()] == [p.requires_grad for p in b.parameters()]


def test_fixed_statistics_train_the_affine_only():
    cfg = resnet_cfg(DEPTH=50, NORM="FixedStatsBN", **THIN, **DEFORM)
    resnet, frozen = build(cfg).train(), build(resnet_cfg(DEPTH=50, **THIN, **DEFORM)).train()
    assert resnet.state_dict().keys() == frozen.state_dict().keys()
    randomize(frozen)
    resnet.load_state_dict(frozen.state_dict())
    before = {k: v.clone() for k, v in resnet.named_buffers()}
    x = torch.randn(2, 3, 64, 64)
    out = resnet(x)["res5"]
    torch.testing.assert_close(out, frozen(x)["res5"], rtol=1e-3, atol=1e-3)
    out.sum().backward()
    assert all(torch.equal(v, before[k]) for k, v in resnet.named_buffers())
    norm = resnet.res3[0].conv2.norm
    assert isinstance(norm, FixedStatsBatchNorm2d) and norm.weight.grad.abs().sum() > 0
    assert isinstance(resnet.res2[0].conv2.norm, FrozenBatchNorm2d)
    assert isinstance(resnet.stem.conv1.norm, FrozenBatchNorm2d)


def test_outputs_decide_what_is_built():
    resnet = build(resnet_cfg(DEPTH=50, OUT_FEATURES=["res3"], **THIN, **DEFORM))
    assert not hasattr(resnet, "res4") and isinstance(resnet.res3[0], DeformBottleneckBlock)


def test_impossible_options_are_named():
    with pytest.raises(ConfigError, match="ResNet-34 has none"):
        build(resnet_cfg(DEPTH=34, RES2_OUT_CHANNELS=64, **DEFORM))
    with pytest.raises(ConfigError, match=r"DEFORM_ON_PER_STAGE must have 4 entries.*has 3"):
        build(resnet_cfg(DEPTH=50, DEFORM_ON_PER_STAGE=[False, True, True]))
    with pytest.raises(ConfigError, match=r"DEFORM_INTERVAL must be 1 .* not 0"):
        build(resnet_cfg(DEPTH=50, DEFORM_INTERVAL=0))
    with pytest.raises(ConfigError, match=r"STEM_TYPE must be one of basic, deep, not 'deeplab'"):
        build(resnet_cfg(DEPTH=50, STEM_TYPE="deeplab"))


@pytest.mark.parametrize(
    ("depth", "interval", "expected"),
    [(50, 1, [range(4), range(6), range(3)]), (101, 3, [(0, 3), (0, 3, 6, 9, 12, 15, 18, 21), (0,)])],
)
def test_every_so_many_th_block_is_deformable(depth, interval, expected):
    """YOLACT++ on ResNet-50 (13 blocks) and on ResNet-101 (11)."""
    with torch.device("meta"):
        resnet = build(resnet_cfg(DEPTH=depth, DEFORM_INTERVAL=interval, DEFORM_MODULATED=True, **DEFORM))
    found = [[i for i, x in enumerate(stage) if isinstance(x, DeformBottleneckBlock)] for stage in resnet.stages]
    assert found == [[], *map(list, expected)]


@pytest.mark.parametrize(("batch", "kind"), [(6, nn.BatchNorm2d), (5, FrozenBatchNorm2d)])
def test_norm_by_the_size_of_the_batch(monkeypatch, batch, kind):
    cfg = resnet_cfg(DEPTH=50, NORM="BNFrom6")
    cfg.MODEL.BACKBONE.FREEZE_AT, cfg.SOLVER.IMS_PER_BATCH = 0, 3 * batch
    monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: 3)
    with torch.device("meta"):
        assert isinstance(build(cfg).res3[0].conv1.norm, kind)
