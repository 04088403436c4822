"""Convolutions in 8-bit integers: their error is that of rounding, and no convolution of a model is forgotten."""

import copy
import json
import math

import pytest
import torch
from detectron2.layers import Conv2d
from detectron2.modeling.backbone.resnet import BottleneckBlock
from torch import nn

from centermask_solo.modeling.engine import prepare
from centermask_solo.modeling.quantization import (
    FORMAT,
    LEVELS,
    WEIGHT_LEVELS,
    Int8Conv2d,
    Range,
    calibrate,
    quantizable,
    quantize,
    read_ranges,
    write_ranges,
)
from centermask_solo.utils.errors import ConfigError
from tests.modeling.models import SYSTEMS

GEOMETRIES = [
    {"kernel_size": 1},
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": 2, "dilation": 2},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": 1, "stride": 2},
]


def convolution(**geometry) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(16, 24, **geometry).to(memory_format=torch.channels_last).requires_grad_(False)


@pytest.mark.parametrize("low", [0.0, -1.5], ids=["after a ReLU", "signed"])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_the_error_is_that_of_rounding(geometry, low):
    conv = convolution(**geometry)
    x = torch.empty(2, 16, 9, 13).uniform_(low, 2.0).to(memory_format=torch.channels_last)
    expected = conv(x)
    integers = nn.Sequential(copy.deepcopy(conv))
    assert quantize(integers, {"0": Range(low, 2.0)}) == 1
    # Each product is off by half a step of its input and half a step of its weight.
    step, weight_step = (2.0 - low) / LEVELS, conv.weight.abs().amax(dim=(1, 2, 3)) / WEIGHT_LEVELS
    magnitude = max(-low, 2.0)
    bound = conv.weight.abs().sum(dim=(1, 2, 3)) * step + conv.weight[0].numel() * magnitude * weight_step / 2
    error = (integers(x) - expected).abs().amax(dim=(0, 2, 3))
    assert (error <= bound).all()
    assert (error > 0).any()
    half_step = 0.6 * step * conv.weight.square().sum(dim=(1, 2, 3)).sqrt() + 0.1 * bound
    assert (integers(x) - expected).square().mean(dim=(0, 2, 3)).sqrt().le(half_step).all()


def test_values_beyond_the_range_are_cut():
    conv = convolution(kernel_size=1)
    integers = nn.Sequential(copy.deepcopy(conv))
    quantize(integers, {"0": Range(0.0, 1.0)})
    torch.testing.assert_close(
        integers(torch.full((1, 16, 2, 2), 7.0)), conv(torch.ones(1, 16, 2, 2)), rtol=0, atol=0.02
    )


def test_other_sizes_later_and_nothing_at_all():
    conv = convolution(kernel_size=3, padding=1)
    integers = nn.Sequential(copy.deepcopy(conv))
    quantize(integers, {"0": Range(0.0, 1.0)})
    for size in [(1, 16, 8, 8), (3, 16, 5, 40), (1, 16, 1, 1)]:
        x = torch.rand(size)
        assert (integers(x) - conv(x)).abs().max() < 0.02
    assert integers(torch.zeros(0, 16, 8, 8)).shape == (0, 24, 8, 8)


def test_maps_of_any_layout_are_rounded_in_parts(monkeypatch):
    monkeypatch.setattr("centermask_solo.modeling.quantization.CACHED", 100)
    integers = nn.Sequential(convolution(kernel_size=3, padding=1))
    quantize(integers, {"0": Range(-1.0, 1.0)})
    x = torch.rand(2, 20, 9, 13) * 2 - 1
    expected = integers(x[:, :16].contiguous())
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.testing.assert_close(integers(x.to(memory_format=layout)[:, :16]), expected)
        assert torch.equal(integers(x[:, :16].bfloat16()), integers(x[:, :16].bfloat16().float()))


def test_convolutions_of_a_bottleneck_hand_integers_on():
    torch.manual_seed(0)
    block = BottleneckBlock(32, 32, bottleneck_channels=16, norm="").requires_grad_(False)
    model = nn.Sequential(block)
    x = torch.randn(1, 32, 8, 12)
    images = [[{"image": x}]]
    outer = nn.Module()
    outer.body, outer.forward = model, lambda batch: model(batch[0]["image"])
    expected, ranges = model(x), calibrate(outer, images)
    separate = copy.deepcopy(model)
    assert quantize(model, {name.removeprefix("body."): found for name, found in ranges.items()}) == 3
    seen = []
    for conv in (block.conv1, block.conv2, block.conv3):
        conv.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
    found = model(x)
    assert seen == [torch.float32, torch.uint8, torch.uint8]
    signed = {
        n.removeprefix("body."): r if n.endswith("1") else r._replace(low=-1e-3 - r.high / 255)
        for n, r in ranges.items()
    }
    quantize(separate, signed)  # whose integers have a place for negative numbers: nothing is handed on
    steps = (found - expected).abs().max(), (separate(x) - expected).abs().max()
    assert 0 < steps[0] < 0.05 * expected.abs().max() and 0 < steps[1] < 0.05 * expected.abs().max()


def test_norm_and_activation_of_the_layer_stay():
    torch.manual_seed(0)
    conv = Conv2d(16, 32, 3, padding=1, norm=nn.GroupNorm(4, 32), activation=nn.functional.relu).requires_grad_(False)
    x = torch.rand(1, 16, 6, 6)
    expected = conv(x)
    model = nn.Sequential(conv)
    quantize(model, {"0": Range(0.0, 1.0)})
    assert model(x).min() == 0
    torch.testing.assert_close(model(x), expected, rtol=0, atol=0.1)


def test_depthwise_and_narrow_convolutions_stay_as_they_are():
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3, groups=16), nn.Conv2d(16, 32, 1), nn.Conv2d(32, 4, 1)
    )
    assert list(quantizable(model)) == ["2"]


def test_ranges_leave_out_outliers_and_contain_zero():
    model = nn.Sequential(nn.Conv2d(16, 16, 1))

    def run(batch):
        return model(batch[0]["image"])

    outer = nn.Module()
    outer.body, outer.forward = model, run
    image = torch.linspace(1, 2, 160_000).reshape(1, 16, 100, 100).clone()
    image[0, 0, 0, 0] = 1000.0
    (found,) = calibrate(outer, [[{"image": image}]]).values()
    assert found.low == 0 and 1.99 < found.high <= 2.0


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_system_in_integers(system):
    """Every convolution that gains from integers is one, also those that modules keep in lists, such as the FPN's."""
    model = SYSTEMS[system].model().eval()
    inputs = [[{"image": torch.randint(0, 256, (3, 64, 96), generator=torch.Generator().manual_seed(0)).float()}]]
    exact = prepare(copy.deepcopy(model))
    convs = quantizable(exact)
    ranges = calibrate(exact, inputs)
    assert ranges.keys() <= convs.keys()
    prepare(model, dtype="int8", ranges=ranges)
    assert sum(isinstance(x, Int8Conv2d) for x in model.modules()) == len(ranges) >= len(convs) - 12
    with torch.no_grad():
        instances = model(inputs[0])[0]["instances"]
    assert instances.scores.dtype == instances.pred_boxes.tensor.dtype == torch.float32
    assert instances.scores.isfinite().all()


def test_files_of_ranges(tmp_path):
    ranges = {"a.conv": Range(-1.0, 2.5, 7.0)}
    path = str(tmp_path / "ranges.json")
    write_ranges(ranges, path)
    assert read_ranges(path) == ranges
    with pytest.raises(ConfigError, match=r"there is no .*: write it with centermask-solo calibrate"):
        read_ranges(str(tmp_path / "absent.json"))
    impossible = [
        json.dumps({"format": FORMAT, "ranges": {"a": x}})
        for x in ([math.nan, 1, 1], [0, math.inf, 1], [1, 2, 1], [0, 1])
    ]
    with pytest.raises(ConfigError, match=r"cannot be read \(it is a folder\)"):
        read_ranges(str(tmp_path))
    impossible.append(json.dumps({"format": FORMAT, "ranges": {}}))
    for content in ("{", "[]", json.dumps({"format": "other", "ranges": {}}), '{"format": 1}', *impossible):
        (tmp_path / "other.json").write_text(content)
        with pytest.raises(ConfigError, match=r"other\.json holds no ranges"):
            read_ranges(str(tmp_path / "other.json"))


def test_ranges_of_other_weights():
    model = nn.Sequential(convolution(kernel_size=1)).eval()
    ranges = {"0": Range(0.0, 1.0, float(model[0].weight.double().abs().sum()))}
    with torch.no_grad():
        model[0].weight[0, 0] += 1.0
    with pytest.raises(ConfigError, match="calibrated for other weights, as those of 0 show: write them again"):
        quantize(model, ranges)
    with torch.no_grad():
        model[0].weight[0, 0] -= 1.0
    assert quantize(model, ranges) == 1


def test_ranges_of_another_model():
    model = nn.Sequential(convolution(kernel_size=1))
    with pytest.raises(ConfigError, match="of another model: it has no convolution 7 to quantize"):
        quantize(model, {"7": Range(0.0, 1.0)})
    with pytest.raises(ConfigError, match="int8 needs the ranges"):
        prepare(model, dtype="int8")
