import pytest
import torch
import torch.nn.functional as F
from detectron2.config import get_cfg
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import build_backbone
from torch import nn

from centermask_solo import add_centermask_solo_config
from centermask_solo.modeling.backbone.vovnet import BODIES, VoVNet, VoVNetBody
from centermask_solo.modeling.backbone.vovnet_blocks import ESE, DeformOptions, OSABlock
from centermask_solo.utils.errors import ConfigError

STAGES = ["stage2", "stage3", "stage4", "stage5"]
TINY = VoVNetBody((8, 8, 16), (8, 8, 16, 16), (16, 16, 32, 32), 2, (1, 1, 2, 2))
BN = ("weight", "bias", "running_mean", "running_var")
# Millions of values, buffers included, of the published models' bottom-up parts; entries of the whole models less
# those of FPN and top block (12 + 4), FCOS (8 * convs + 11), mask head (2 * convs + 5), mask IoU head (2 * convs + 6).
LARGE, LITE = (16 + 8 * convs + 11 + 2 * convs + 5 + 2 * convs + 6 for convs in (4, 2))
SIZES = {
    "V-19-slim-dw-eSE": (1.390, 194 - LITE),
    "V-19-slim-eSE": (2.658, 165 - LITE),
    "V-19-eSE": (10.190, 165 - LITE),
    "V-39-eSE": (25.205, 293 - LARGE),
    "V-57-eSE": (41.487, 389 - LARGE),
    "V-99-eSE": (69.578, 613 - LARGE),
}
DEFORMABLE_SIZES = {
    "V-39-eSE": (26.978, 343 - LARGE),
    "V-57-eSE": (44.474, 469 - LARGE),
    "V-99-eSE": (74.992, 763 - LARGE),
}


def vovnet_cfg(**options):
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.MODEL.BACKBONE.NAME = "build_vovnet_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    for key, value in options.items():
        cfg.MODEL.VOVNET[key] = value
    return cfg


def build_meta(**options):
    with torch.device("meta"):
        return build_backbone(vovnet_cfg(**options), ShapeSpec(channels=3))


def size_of(model):
    state = model.state_dict()
    return round(sum(v.numel() for v in state.values()) / 1e6, 3), len(state)


@pytest.mark.parametrize("body", SIZES)
def test_sizes_are_the_published_ones(body):
    assert size_of(build_meta(CONV_BODY=body)) == SIZES[body]


@pytest.mark.parametrize("body", DEFORMABLE_SIZES)
def test_deformable_sizes_are_the_published_ones(body):
    model = build_meta(CONV_BODY=body, DEFORM_ON_PER_STAGE=[False, True, True, True], DEFORM_MODULATED=True)
    assert size_of(model) == DEFORMABLE_SIZES[body]


@pytest.mark.parametrize("body", BODIES)
def test_every_body_computes_its_outputs(body):
    """Two small images through the real thing: names, channels, strides."""
    torch.manual_seed(0)
    model = VoVNet(BODIES[body], out_features=["stem", *STAGES]).eval()
    with torch.no_grad():
        out = model(torch.randn(1, 3, 64, 96))
    assert list(out) == list(model.output_shape()) == ["stem", *STAGES]
    for name, feature in out.items():
        shape = model.output_shape()[name]
        assert tuple(feature.shape) == (1, shape.channels, 64 // shape.stride, 96 // shape.stride), name
        assert feature.isfinite().all()
    assert [s.stride for s in model.output_shape().values()] == [4, 4, 8, 16, 32]
    assert [model.output_shape()[s].channels for s in STAGES] == list(BODIES[body].out_channels)


def test_keys_of_v19():
    state = {k: tuple(v.shape) for k, v in build_meta(CONV_BODY="V-19-eSE").state_dict().items()}
    expected = {
        "stem.stem_1/conv.weight": (64, 3, 3, 3),
        "stem.stem_2/conv.weight": (64, 64, 3, 3),
        "stem.stem_3/conv.weight": (128, 64, 3, 3),
    }
    expected |= {f"stem.stem_{i}/norm.{k}": (c,) for i, c in ((1, 64), (2, 64), (3, 128)) for k in BN}
    for stage, in_channels, c, out, cat in (
        (2, 128, 128, 256, 512),
        (3, 256, 160, 512, 736),
        (4, 512, 192, 768, 1088),
        (5, 768, 224, 1024, 1440),
    ):
        block = f"stage{stage}.OSA{stage}_1"
        for i in range(3):
            unit = f"{block}.layers.{i}.OSA{stage}_1_{i}"
            expected[f"{unit}/conv.weight"] = (c, in_channels if i == 0 else c, 3, 3)
            expected |= {f"{unit}/norm.{k}": (c,) for k in BN}
        expected[f"{block}.concat.OSA{stage}_1_concat/conv.weight"] = (out, cat, 1, 1)
        expected |= {f"{block}.concat.OSA{stage}_1_concat/norm.{k}": (out,) for k in BN}
        expected |= {f"{block}.ese.fc.weight": (out, out, 1, 1), f"{block}.ese.fc.bias": (out,)}
    assert state == expected


def test_keys_of_depthwise_and_deformable_parts():
    state = {k: tuple(v.shape) for k, v in build_meta(CONV_BODY="V-19-slim-dw-eSE").state_dict().items()}
    expected = {
        "stem.stem_1/conv.weight": (64, 3, 3, 3),
        "stem.stem_2/dw_conv3x3.weight": (64, 1, 3, 3),
        "stem.stem_2/pw_conv1x1.weight": (64, 64, 1, 1),
        "stem.stem_3/pw_norm.running_var": (64,),
        "stage3.OSA3_1.conv_reduction.OSA3_1_reduction_0/conv.weight": (80, 112, 1, 1),
        "stage3.OSA3_1.conv_reduction.OSA3_1_reduction_0/norm.bias": (80,),
        "stage3.OSA3_1.layers.0.OSA3_1_0/dw_conv3x3.weight": (80, 1, 3, 3),
        "stage3.OSA3_1.layers.0.OSA3_1_0/pw_conv1x1.weight": (80, 80, 1, 1),
        "stage3.OSA3_1.concat.OSA3_1_concat/conv.weight": (256, 112 + 3 * 80, 1, 1),
    }
    assert expected.items() <= state.items()
    assert not any("stage2.OSA2_1.conv_reduction" in k for k in state)

    plain = {k: tuple(v.shape) for k, v in build_meta().state_dict().items()}
    for modulated, channels in ((True, 54), (False, 36)):
        state = build_meta(
            DEFORM_ON_PER_STAGE=[False, False, True, False], DEFORM_MODULATED=modulated, DEFORM_NUM_GROUPS=2
        ).state_dict()
        extra = {k: tuple(v.shape) for k, v in state.items() if k not in plain}
        assert plain.items() <= {k: tuple(v.shape) for k, v in state.items()}.items()
        expected = {}
        for block, in_channels in ((1, 512), (2, 768)):
            for i in range(5):
                unit = f"stage4.OSA4_{block}.layers.{i}.OSA4_{block}_{i}/conv_offset"
                expected[f"{unit}.weight"] = (channels, in_channels if i == 0 else 192, 3, 3)
                expected[f"{unit}.bias"] = (channels,)
        assert extra == expected


@pytest.mark.parametrize(("size", "pooled"), [(2, 1), (3, 1), (4, 2), (5, 2), (7, 3), (8, 4), (25, 12)])
def test_pooling_has_no_padding_and_ceils(size, pooled):
    pool = VoVNet(TINY, out_features=STAGES).stage3.Pooling
    x = torch.arange(float(size)).reshape(1, 1, 1, size).expand(1, 1, size, size) - 100  # below zero: padding would win
    out = pool(x)
    assert out.shape[-2:] == (pooled, pooled)
    assert out[0, 0, 0].tolist() == [min(2 * i + 2, size - 1) - 100.0 for i in range(pooled)]


def test_identity_in_every_block_but_the_first():
    for body in BODIES:
        model = build_meta(CONV_BODY=body)
        for name, index in zip(STAGES, range(4), strict=True):
            blocks = [m for m in model.get_submodule(name) if isinstance(m, OSABlock)]
            assert [b.identity for b in blocks] == [False] + [True] * (BODIES[body].num_blocks[index] - 1)


@pytest.mark.parametrize("identity", [False, True])
def test_block_equals_its_definition(identity):
    torch.manual_seed(0)
    block = OSABlock("A", 6, 4, 6, num_layers=2, norm="FrozenBN", identity=identity).eval()
    x = torch.randn(1, 6, 5, 7)
    w = {k: v for k, v in block.state_dict().items() if k.endswith("weight") and v.dim() == 4}
    y1 = F.conv2d(x, w["layers.0.A_0/conv.weight"], padding=1).relu()
    y2 = F.conv2d(y1, w["layers.1.A_1/conv.weight"], padding=1).relu()
    z = F.conv2d(torch.cat([x, y1, y2], 1), w["concat.A_concat/conv.weight"]).relu()
    gate = F.relu6(F.conv2d(z.mean((2, 3), keepdim=True), block.ese.fc.weight, block.ese.fc.bias) + 3) / 6
    expected = z * gate + (x if identity else 0)
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


def test_depthwise_block_concatenates_the_unreduced_input():
    torch.manual_seed(0)
    block = OSABlock("A", 6, 4, 5, num_layers=1, norm="FrozenBN", identity=False, depthwise=True).eval()
    x = torch.randn(1, 6, 5, 7)
    w = {k: v for k, v in block.state_dict().items() if k.endswith("weight") and v.dim() == 4}
    y = F.conv2d(x, w["conv_reduction.A_reduction_0/conv.weight"]).relu()
    y = F.conv2d(y, w["layers.0.A_0/dw_conv3x3.weight"], padding=1, groups=4)  # no activation in between
    y = F.conv2d(y, w["layers.0.A_0/pw_conv1x1.weight"]).relu()
    z = F.conv2d(torch.cat([x, y], 1), w["concat.A_concat/conv.weight"]).relu()
    torch.testing.assert_close(block(x), block.ese(z), rtol=1e-4, atol=1e-5)


def test_ese_gate_is_a_hard_sigmoid_with_bias():
    ese = ESE(3)
    nn.init.zeros_(ese.fc.weight)
    with torch.no_grad():
        ese.fc.bias.copy_(torch.tensor([-3.0, 0.0, 3.0]))
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(ese(x), x * torch.tensor([0.0, 0.5, 1.0]).reshape(1, 3, 1, 1))


def test_deformable_v1_without_offsets_is_the_plain_body():
    """ImageNet weights of the plain body load into the deformable one, whose offsets stay at zero."""
    torch.manual_seed(0)
    plain = VoVNet(TINY, out_features=STAGES).eval()
    deformable = VoVNet(
        TINY, out_features=STAGES, deformable=[False, True, True, True], deform=DeformOptions(False, 1)
    ).eval()
    missing, unexpected = deformable.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected and missing and all("conv_offset" in k for k in missing)
    assert all((v == 0).all() for k, v in deformable.state_dict().items() if "conv_offset" in k)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected, actual = plain(x), deformable(x)
    for name in STAGES:
        torch.testing.assert_close(actual[name], expected[name], rtol=1e-4, atol=1e-5)
    unit = deformable.stage3.OSA3_1.layers[1]
    nn.init.constant_(unit.get_submodule("OSA3_1_1/conv_offset").bias, 0.6)
    with torch.no_grad():
        assert not torch.allclose(deformable(x)["stage3"], expected["stage3"])


@pytest.mark.parametrize("freeze_at", [-1, 0, 2])
def test_freezing_touches_the_frozen_stages_alone(freeze_at):
    model = VoVNet(TINY, out_features=STAGES, norm="BN", freeze_at=freeze_at).train()
    for number, name in enumerate(["stem", *STAGES], start=1):
        part = model.get_submodule(name)
        frozen = number <= freeze_at
        assert all(p.requires_grad is not frozen for p in part.parameters()), name
        norms = [m for m in part.modules() if isinstance(m, (nn.BatchNorm2d, FrozenBatchNorm2d))]
        assert norms and all(isinstance(m, FrozenBatchNorm2d) is frozen for m in norms), name
    model(torch.randn(2, 3, 64, 64))["stage5"].sum().backward()
    assert all((p.grad is not None) is p.requires_grad for p in model.parameters())


def test_nothing_unused_is_built():
    model = VoVNet(TINY, out_features=["stage3"])
    assert hasattr(model, "stage3") and not hasattr(model, "stage4")
    with torch.no_grad():
        assert list(model(torch.randn(1, 3, 32, 32))) == ["stage3"]


@pytest.mark.parametrize(
    ("name", "levels"),
    [
        ("build_vovnet_fpn_backbone", ["p2", "p3", "p4", "p5", "p6"]),
        ("build_fcos_vovnet_fpn_backbone", ["p3", "p4", "p5", "p6", "p7"]),
    ],
)
def test_fpn_builders(name, levels):
    cfg = vovnet_cfg(CONV_BODY="V-19-slim-dw-eSE", OUT_FEATURES=STAGES if levels[0] == "p2" else STAGES[1:])
    cfg.MODEL.BACKBONE.NAME = name
    cfg.MODEL.FPN.IN_FEATURES = cfg.MODEL.VOVNET.OUT_FEATURES
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    fpn = build_backbone(cfg, ShapeSpec(channels=3)).eval()
    with torch.no_grad():
        out = fpn(torch.randn(1, 3, 64, 64))
    assert list(out) == levels and all(v.shape[1] == 16 for v in out.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"CONV_BODY": "V-27-eSE"}, r"CONV_BODY must be one of V-19-slim-dw-eSE, .* not 'V-27-eSE'"),
        ({"OUT_FEATURES": ["res2"]}, r"OUT_FEATURES may name stem, stage2, .* not res2"),
        ({"OUT_FEATURES": []}, r"OUT_FEATURES may name .* not nothing"),
        ({"NORM": "LN"}, r"NORM must be one of .* not 'LN'"),
        ({"DEFORM_ON_PER_STAGE": [True]}, r"DEFORM_ON_PER_STAGE must have 4 entries.* has 1"),
        (
            {"CONV_BODY": "V-19-dw-eSE", "DEFORM_ON_PER_STAGE": [False, False, False, True]},
            r"layers of V-19-dw-eSE are depthwise and cannot be deformable",
        ),
    ],
)
def test_impossible_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        build_meta(**options)
