from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from centermask_solo.modeling.layers import DeformConv2d
from centermask_solo.modeling.solov2.heads import SOLOv2InstanceHead, SOLOv2MaskHead
from centermask_solo.ops.levels import resize_levels
from centermask_solo.utils.errors import ConfigError
from tests.modeling.solov2.tiny import tiny_model


def instance_head(**kwargs):
    torch.manual_seed(0)
    defaults = {
        "in_channels": 8,
        "in_strides": [4, 8, 16, 32, 64],
        "level_strides": [8, 8, 16, 32, 32],
        "num_grids": [9, 8, 5, 4, 3],
        "num_classes": 2,
        "kernel_length": 6,
        "channels": 32,
        "num_convs": 2,
    }
    return SOLOv2InstanceHead(**{**defaults, **kwargs})


def mask_head(**kwargs):
    torch.manual_seed(0)
    return SOLOv2MaskHead(
        **{"in_channels": 8, "in_strides": [4, 8, 16, 32], "channels": 32, "kernel_length": 64, **kwargs}
    )


def pyramid(height, width, strides, channels=8):
    """Random features of an input of (height, width); the last size is rounded up, as FPN's P6."""
    rng = torch.Generator().manual_seed(1)
    return [torch.randn(2, channels, -(-height // s), -(-width // s), generator=rng) for s in strides]


def test_levels_are_resized_to_their_strides():
    """P2 becomes the mean of 2 x 2 pixels and P6 as large as P5, which has an odd size here."""
    features = pyramid(96, 160, [4, 8, 16, 32, 64])
    head = instance_head()
    levels = resize_levels(features, head.in_strides, head.level_strides)
    assert [tuple(x.shape[-2:]) for x in levels] == [(12, 20), (12, 20), (6, 10), (3, 5), (3, 5)]
    torch.testing.assert_close(levels[0], F.avg_pool2d(features[0], 2))
    assert all(a is b for a, b in zip(levels[1:4], features[1:4], strict=True))
    assert torch.equal(levels[4], F.interpolate(features[4], (3, 5), mode="bilinear", align_corners=False))


@pytest.mark.parametrize(
    ("in_strides", "level_strides", "num_grids"),
    [
        ([8, 16, 32], [8, 16, 32], [6, 4, 2]),
        ([4], [8], [7]),
        ([8, 16, 32, 64, 128], [8, 16, 32, 32, 32], [5, 4, 3, 2, 1]),
    ],
)
def test_any_number_of_levels(in_strides, level_strides, num_grids):
    head = instance_head(in_strides=in_strides, level_strides=level_strides, num_grids=num_grids)
    class_logits, kernels = head(pyramid(128, 64, in_strides))
    assert [tuple(x.shape) for x in class_logits] == [(2, 2, s, s) for s in num_grids]
    assert [tuple(x.shape) for x in kernels] == [(2, 6, s, s) for s in num_grids]


def test_only_the_kernels_know_where_their_cells_are():
    """Without an image the classes are the same everywhere, and the kernels are not."""
    head = instance_head()
    class_logits, kernels = head([torch.zeros_like(x) for x in pyramid(64, 64, head.in_strides)])
    assert all(torch.equal(x, head.cate_pred.bias[:, None, None].expand_as(x)) for x in class_logits)
    assert all(x.flatten(2).std(2).min() > 0 for x in kernels)


def test_coordinates_are_resized_with_the_features():
    """A 1 x 1 kernel tower that copies x: at S cells the ends are not -1 and 1, but the means between pixels."""
    seen = []
    head = instance_head(in_strides=[8], level_strides=[8], num_grids=[2])
    head.kernel_tower.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    head([torch.zeros(1, 8, 4, 8)])
    x, y = seen[0][0, 8:]
    line = torch.linspace(-1, 1, 8)
    torch.testing.assert_close(x[0], torch.stack((line[1:3].mean(), line[5:7].mean())))
    torch.testing.assert_close(y[:, 0], torch.tensor([-2 / 3, 2 / 3]))


def test_the_pyramid_starts_as_detectron2s():
    """Uniform; Xavier's, which the authors' own recipe takes, differ where a layer changes the number of channels."""
    fpn = tiny_model().backbone
    for conv in (*fpn.lateral_convs, *fpn.output_convs):
        fan_in, fan_out = (n * conv.kernel_size[0] ** 2 for n in (conv.in_channels, conv.out_channels))
        bound = math.sqrt(3 / fan_in)
        assert 0.95 * bound < conv.weight.abs().max().item() <= bound
        xavier = math.sqrt(6 / (fan_in + fan_out))
        assert (bound == pytest.approx(xavier)) is (fan_in == fan_out)
        assert conv.bias is None or not conv.bias.any()


def test_initialization():
    head = instance_head(channels=64, prior_prob=0.02, deformable="all")
    torch.testing.assert_close(head.cate_pred.bias.sigmoid(), torch.full((2,), 0.02))
    for module in (head, mask_head(deformable=True)):
        for name, p in module.named_parameters():
            if "conv_offset" in name or (name.endswith("bias") and "cate_pred" not in name):
                assert not p.any(), name
            elif p.dim() == 1:
                assert name.endswith("cate_pred.bias") or bool((p == 1).all()), name
            else:
                assert p.std().item() == pytest.approx(0.01, rel=0.25), name


@pytest.mark.parametrize(
    ("deformable", "modulated", "expected"),
    [
        ("none", True, {}),
        ("last", False, {"cate_tower.3": (18, 32, 3, 3), "kernel_tower.3": (18, 32, 3, 3)}),
        (
            "all",
            True,
            {
                "cate_tower.0": (27, 8, 3, 3),
                "cate_tower.3": (27, 32, 3, 3),
                "kernel_tower.0": (27, 10, 3, 3),
                "kernel_tower.3": (27, 32, 3, 3),
            },
        ),
    ],
)
def test_deformable_towers(deformable, modulated, expected):
    head = instance_head(deformable=deformable, modulated=modulated)
    offsets = {
        name.removesuffix(".conv_offset.weight"): tuple(p.shape)
        for name, p in head.named_parameters()
        if name.endswith("conv_offset.weight")
    }
    assert offsets == expected
    assert all(f"{name}.bias" not in head.state_dict() for name in expected)
    class_logits, _ = head(pyramid(64, 64, head.in_strides))
    assert class_logits[0].shape == (2, 2, 9, 9)


def test_a_deformable_mask_head_deforms_every_convolution():
    state = mask_head(deformable=True).state_dict()
    offsets = {k: tuple(v.shape) for k, v in state.items() if k.endswith("conv_offset.weight")}
    assert len(offsets) == 8
    assert offsets["convs_all_levels.0.conv0.0.conv_offset.weight"] == (27, 8, 3, 3)
    assert offsets["convs_all_levels.3.conv0.0.conv_offset.weight"] == (27, 10, 3, 3)
    assert offsets["conv_pred.0.conv_offset.weight"] == (3, 32, 1, 1)
    v1 = mask_head(deformable=True, modulated=False).state_dict()
    assert tuple(v1["conv_pred.0.conv_offset.weight"].shape) == (2, 32, 1, 1)


@pytest.mark.parametrize("deformable", [False, True])
def test_mask_features_have_the_size_of_the_finest_map(deformable):
    features = pyramid(64, 96, [4, 8, 16, 32])
    mask_features = mask_head(deformable=deformable)(features)
    assert mask_features.shape == (2, 64, 16, 24)
    assert mask_features.min() == 0  # after a ReLU
    assert mask_features.max() > 0


def test_every_level_adds_to_the_mask_features():
    head, features = mask_head(), pyramid(64, 96, [4, 8, 16, 32])
    whole = head(features)
    for i in range(4):
        assert not torch.allclose(whole, head([x * (j != i) for j, x in enumerate(features)]), atol=1e-3)


def test_without_normalization_convolutions_have_biases():
    for head in (instance_head(norm="none"), mask_head(norm="none")):
        names = {name for name, _ in head.named_parameters()}
        assert all(name.replace("weight", "bias") in names for name in names)
        assert not [m for m in head.modules() if isinstance(m, (torch.nn.GroupNorm, DeformConv2d))]
    assert mask_head(norm="none")(pyramid(64, 64, [4, 8, 16, 32])).shape == (2, 64, 16, 16)


@pytest.mark.parametrize("build", [instance_head, mask_head])
def test_an_unknown_norm_is_an_error(build):
    with pytest.raises(ConfigError, match=r"MODEL.SOLOV2.NORM must be one of GN, none, not 'BN'"):
        build(norm="BN")


@pytest.mark.parametrize("deformable", [False, True])
def test_coordinates_alone_start_with_larger_weights(deformable):
    pairs = (
        (instance_head, "kernel_tower.0.weight", {"deformable": "all" if deformable else "none"}),
        (mask_head, "convs_all_levels.3.conv0.0.weight", {"deformable": deformable}),
    )
    for make, scaled, options in pairs:
        usual = make(**options).state_dict()
        found = make(coordinate_init=8.0, **options).state_dict()
        usual[scaled][:, -2:] *= 8
        assert all(torch.equal(usual[name], found[name]) for name in usual)
