import pytest
import torch
import torch.nn.functional as F
from detectron2.config import get_cfg
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import build_backbone
from torch import nn

from centermask_solo import add_centermask_solo_config
from centermask_solo.modeling.backbone.darknet import DarkNet, DarkNetBlock
from centermask_solo.utils.errors import ConfigError

ALL = ["stage1", "stage2", "stage3", "stage4", "stage5"]


def build(**options):
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.FREEZE_AT = "build_darknet_backbone", options.pop("freeze_at", 0)
    cfg.SOLVER.IMS_PER_BATCH = options.pop("batch", 8)
    for key, value in options.items():
        cfg.MODEL.DARKNET[key] = value
    with torch.device("meta"):
        return build_backbone(cfg, ShapeSpec(channels=3))


def test_sizes_round_up_as_at_550():
    with torch.device("meta"):
        model = DarkNet(out_features=ALL)
        out = model(torch.randn(1, 3, 550, 550))
    assert {k: tuple(v.shape) for k, v in out.items()} == {
        "stage1": (1, 64, 275, 275),
        "stage2": (1, 128, 138, 138),
        "stage3": (1, 256, 69, 69),
        "stage4": (1, 512, 35, 35),
        "stage5": (1, 1024, 18, 18),
    }
    assert {k: (v.channels, v.stride) for k, v in model.output_shape().items()} == {
        f"stage{i}": (32 * 2**i, 2**i) for i in range(1, 6)
    }


def test_keys():
    """52 convolutions, each with a norm; the 53rd layer of the name is the classifier."""
    state = {k: tuple(v.shape) for k, v in build(NORM="BN").state_dict().items()}
    assert len(state) == 52 * 6
    assert sum(len(shape) == 4 for shape in state.values()) == 52
    expected = {
        "stem.conv1.weight": (32, 3, 3, 3),
        "stem.conv1.norm.running_var": (32,),
        "stage1.downsample.weight": (64, 32, 3, 3),
        "stage3.7.conv1.weight": (128, 256, 1, 1),
        "stage3.7.conv2.weight": (256, 128, 3, 3),
        "stage5.3.conv2.norm.bias": (1024,),
    }
    assert expected.items() <= state.items()
    assert [sum(f"stage{i}.{j}.conv1.weight" in state for j in range(9)) for i in range(1, 6)] == [1, 2, 8, 8, 4]


def test_block_adds_what_its_units_compute():
    """Each unit: convolution, normalization by given statistics, leaky ReLU of slope 0.1; the sum stays as it is."""
    torch.manual_seed(0)
    block = DarkNetBlock(4, norm="BN").eval()
    x = expected = torch.randn(1, 4, 5, 6)
    for conv in (block.conv1, block.conv2):
        norm = conv.norm
        for tensor in (norm.running_mean, norm.weight.data, norm.bias.data):
            tensor.normal_()
        norm.running_var.uniform_(0.5, 2)
        y = F.conv2d(expected, conv.weight, padding=conv.kernel_size[0] // 2)
        mean, var, scale, shift = (
            v[:, None, None] for v in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        )
        y = (y - mean) / (var + 1e-5).sqrt() * scale + shift
        expected = torch.where(y > 0, y, 0.1 * y)
    with torch.no_grad():
        torch.testing.assert_close(block(x), x + expected)


@pytest.mark.parametrize("freeze_at", [0, 2, 6])
def test_freezing(freeze_at):
    model = build(NORM="BN", freeze_at=freeze_at)
    for number, name in enumerate(("stem", *ALL), start=1):
        part, frozen = getattr(model, name), number <= freeze_at
        assert all(p.requires_grad is not frozen for p in part.parameters()), name
        norms = [m for m in part.modules() if isinstance(m, (nn.BatchNorm2d, FrozenBatchNorm2d))]
        assert norms and all(isinstance(m, FrozenBatchNorm2d) is frozen for m in norms), name


def test_norm_is_frozen_for_small_batches():
    assert isinstance(build(batch=6).stem.conv1.norm, nn.BatchNorm2d)
    assert isinstance(build(batch=5).stem.conv1.norm, FrozenBatchNorm2d)


def test_nothing_is_built_beyond_the_last_output():
    model = build(OUT_FEATURES=["stage3", "stage1"])
    assert not hasattr(model, "stage4")
    with torch.device("meta"):
        assert list(model(torch.randn(1, 3, 32, 32))) == ["stage1", "stage3"]


def test_wrong_options_are_named():
    with pytest.raises(ConfigError, match=r"gives stage1, .*stage5, not res5"):
        build(OUT_FEATURES=["res5"])
    with pytest.raises(ConfigError, match="not none"):
        build(OUT_FEATURES=[])
    with pytest.raises(ConfigError, match=r"MODEL.DARKNET.NORM must be one of .*BNFrom6, not 'GN'"):
        build(NORM="GN")
