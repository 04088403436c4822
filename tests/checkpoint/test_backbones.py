"""The backbone of a file is identified by its names and shapes."""

import pytest

from centermask_solo.checkpoint.backbones import Backbone, find_backbone
from tests.checkpoint.sources.backbones import tensors
from tests.checkpoint.sources.test_backbones import PUBLISHED

EXPECTED = {
    "resnet18": "ResNet-18",
    "resnet34": "ResNet-34",
    "resnet50": "ResNet-50",
    "resnet101": "ResNet-101",
    "resnet152": "ResNet-152",
    "resnext50_32x4d": "ResNeXt-50 32x4d",
    "resnext101_32x8d": "ResNeXt-101 32x8d",
    "resnext101_64x4d": "ResNeXt-101 64x4d",
    "MSRA R-50": "ResNet-50",
    "FAIR X-101": "ResNeXt-101 32x8d",
    "V-19-slim-dw-eSE": "VoVNetV2 V-19-slim-dw-eSE",
    "V-19-dw-eSE": "VoVNetV2 V-19-dw-eSE",
    "V-19-slim-eSE": "VoVNetV2 V-19-slim-eSE",
    "V-19-eSE": "VoVNetV2 V-19-eSE",
    "V-39-eSE": "VoVNetV2 V-39-eSE",
    "V-57-eSE": "VoVNetV2 V-57-eSE",
    "V-99-eSE": "VoVNetV2 V-99-eSE",
    "ese_vovnet39b": "VoVNetV2 V-39-eSE",
    "mobilenet_v2": "MobileNetV2",
    "darknet53": "DarkNet-53",
}


def weights_of(name):
    source, shapes = PUBLISHED[name]
    return source.translate(tensors(shapes())).weights


@pytest.mark.parametrize("name", EXPECTED)
def test_published_ones(name):
    assert str(find_backbone(weights_of(name))) == EXPECTED[name]


@pytest.mark.parametrize(("channels", "kind"), [(27, "DCNv2"), (54, "DCNv2"), (18, "DCN"), (36, "DCN")])
def test_deformable_stages(channels, kind):
    weights = weights_of("resnet50")
    weights |= tensors({f"res{s}.0.conv2_offset.weight": (channels, 128, 3, 3) for s in (4, 3)})
    assert str(find_backbone(weights)) == f"ResNet-50, {kind} in res3, res4"


def test_stages_that_are_left_out_do_not_matter_where_the_rest_tells():
    weights = {key: value for key, value in weights_of("resnet101").items() if not key.startswith("res5")}
    assert find_backbone(weights) == Backbone("ResNet", "101")
    weights = {key: value for key, value in weights.items() if not key.startswith("res4")}
    assert str(find_backbone(weights)) == "ResNet of 3 + 4 blocks"
    weights = {key: value for key, value in weights_of("V-99-eSE").items() if not key.startswith("stage5")}
    assert find_backbone(weights) == Backbone("VoVNetV2", "V-99-eSE")


def test_unknown_ones():
    assert find_backbone({}) == Backbone("")
    weights = weights_of("V-39-eSE") | tensors({"stage2.OSA2_9.concat.OSA2_9_concat/conv.weight": (1, 1, 1, 1)})
    assert find_backbone(weights) == Backbone("VoVNetV2", "")
