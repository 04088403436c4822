"""Published YOLACT files have a place for every entry, and fill every parameter."""

import json
from pathlib import Path

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone, build_model
from torch import nn

from centermask_solo import add_centermask_solo_config
from centermask_solo.checkpoint import Checkpointer
from centermask_solo.checkpoint.sources.yolact import DARKNET, FOLDED, SOURCE
from centermask_solo.utils.errors import WeightsError

CASE = Path(__file__).parents[2] / "goldens" / "yolact_resnet50.json"
CONFIGS = Path(__file__).parents[3] / "configs" / "YOLACT"
BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
RESNETS = {
    "yolact_resnet50": (50, []),
    "yolact_base": (101, []),
    "yolact_plus_resnet50": (50, [range(4), range(6), range(3)]),
    "yolact_plus_base": (101, [(0, 3), range(0, 23, 3), (0,)]),
    "yolact_resnet50_pascal": (50, []),
}
NUM_ENTRIES = {  # as published
    "yolact_resnet50": 354,
    "yolact_base": 660,
    "yolact_darknet53": 348,
    "yolact_plus_resnet50": 405,
    "yolact_plus_base": 705,
    "yolact_resnet50_pascal": 354,
}


def batch_norm(name, channels):
    return {f"{name}.{p}": () if p == "num_batches_tracked" else (channels,) for p in BATCH_NORM}


def resnet_entries(depth, deformable):
    found = {"backbone.conv1.weight": (64, 3, 7, 7), **batch_norm("backbone.bn1", 64)}
    in_channels = 64
    for i, blocks in enumerate((3, 4, 6 if depth == 50 else 23, 3)):
        width = 64 * 2**i
        for j in range(blocks):
            at = f"backbone.layers.{i}.{j}"
            shapes = [(width, in_channels, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)]
            for n, shape in enumerate(shapes, start=1):
                found |= {f"{at}.conv{n}.weight": shape, **batch_norm(f"{at}.bn{n}", shape[0])}
            if i and deformable and j in deformable[i - 1]:
                found |= {
                    f"{at}.conv2.bias": (width,),
                    f"{at}.conv2.conv_offset_mask.weight": (27, width, 3, 3),
                    f"{at}.conv2.conv_offset_mask.bias": (27,),
                }
            if j == 0:
                found[f"{at}.downsample.0.weight"] = (4 * width, in_channels, 1, 1)
                found |= batch_norm(f"{at}.downsample.1", 4 * width)
            in_channels = 4 * width
    return found


def darknet_entries():
    """Without the prefix, as in the ImageNet file."""
    found = {"_preconv.0.weight": (32, 3, 3, 3), **batch_norm("_preconv.1", 32)}
    for i, blocks in enumerate((1, 2, 8, 8, 4)):
        width = 64 * 2**i
        found[f"layers.{i}.0.0.weight"] = (width, width // 2, 3, 3)
        found |= batch_norm(f"layers.{i}.0.1", width)
        for j in range(1, blocks + 1):
            at = f"layers.{i}.{j}"
            found[f"{at}.conv1.0.weight"] = (width // 2, width, 1, 1)
            found[f"{at}.conv2.0.weight"] = (width, width // 2, 3, 3)
            found |= {**batch_norm(f"{at}.conv1.1", width // 2), **batch_norm(f"{at}.conv2.1", width)}
    return found


def published(name):
    """Name -> shape of every entry of a published file, written down from the description of its layout."""
    classes = 20 if name.endswith("pascal") else 80
    anchors = 9 if "plus" in name else 3
    if "darknet" in name:
        found = {f"backbone.{k}": v for k, v in darknet_entries().items()}
        laterals = (1024, 512, 256)
    else:
        found, laterals = resnet_entries(*RESNETS[name]), (2048, 1024, 512)

    def conv(at, c_out, c_in, k):
        found[f"{at}.weight"], found[f"{at}.bias"] = (c_out, c_in, k, k), (c_out,)

    for i, channels in enumerate(laterals):
        conv(f"fpn.lat_layers.{i}", 256, channels, 1)
        conv(f"fpn.pred_layers.{i}", 256, 256, 3)
    for at in ("fpn.downsample_layers.0", "fpn.downsample_layers.1", *(f"proto_net.{i}" for i in (0, 2, 4, 8))):
        conv(at, 256, 256, 3)
    conv("proto_net.10", 32, 256, 1)
    head = "prediction_layers.0"
    conv(f"{head}.upfeature.0", 256, 256, 3)
    for layer, number in (("bbox_layer", 4), ("conf_layer", classes + 1), ("mask_layer", 32)):
        conv(f"{head}.{layer}", anchors * number, 256, 3)
    conv("semantic_seg_conv", classes, 256, 1)
    if "plus" in name:
        channels = (1, 8, 16, 32, 64, 128)
        for i in range(5):
            conv(f"maskiou_net.maskiou_net.{2 * i}", channels[i + 1], channels[i], 3)
        conv("maskiou_net.maskiou_net.10", classes, 128, 1)
    return found


def build(name):
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.merge_from_file(str(CONFIGS / f"{name}.yaml"))
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        return build_model(cfg)


def tensors(shapes):
    return {k: torch.empty(shape, device="meta") for k, shape in shapes.items()}


def test_description_agrees_with_the_recorded_file():
    parameters = json.loads(CASE.read_text())["parameters"]
    assert published("yolact_resnet50") == {k: tuple(v) for k, v in parameters.items()}


@pytest.mark.parametrize("name", NUM_ENTRIES)
def test_every_name_and_shape_has_its_place(name):
    theirs = published(name)
    assert len(theirs) == NUM_ENTRIES[name] and SOURCE.recognizes(theirs)
    converted = {k: tuple(v.shape) for k, v in SOURCE.translate(tensors(theirs)).weights.items()}
    ours = {k: tuple(v.shape) for k, v in build(name).state_dict().items()}
    assert converted == ours
    assert not SOURCE.recognizes(ours)


def test_older_files_hold_more():
    theirs = tensors(published("yolact_resnet50"))
    more = {
        "backbone.layer1.0.conv1.weight": torch.zeros(1),
        "backbone.layer4.2.bn3.num_batches_tracked": torch.zeros(()),
        "fpn.downsample_layers.2.weight": torch.zeros(1),
        "fpn.downsample_layers.10.bias": torch.zeros(1),
    }
    found = SOURCE.translate(theirs | more)
    assert found.weights.keys() == SOURCE.translate(theirs).weights.keys()
    assert found.dropped.keys() == more.keys()


@pytest.mark.parametrize(
    "name",
    [
        "prediction_layers.1.bbox_layer.weight",
        "backbone.layers.4.0.conv1.weight",
        "backbone.layers.0.0.conv1.bias",
        "backbone.layers.0.1.downsample.0.weight",
        "backbone.layers.1.0.conv9.weight",
        "fpn.lat_layers.3.weight",
        "proto_net.6.weight",
        "fpn.pred_layers.0.weight.more",
    ],
)
def test_what_has_no_place_is_named(name):
    with pytest.raises(WeightsError, match=rf"no place for 2 entries of the file: {name}, other$"):
        SOURCE.translate({**tensors(published("yolact_resnet50")), name: torch.zeros(1), "other": torch.zeros(1)})


def test_bias_of_a_deformable_convolution_is_folded():
    """The same output of convolution and batch norm, by running statistics."""
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4).eval()
    norm.running_mean.normal_()
    theirs = {f"backbone.layers.2.5.conv2.{k}": v for k, v in conv.state_dict().items()}
    theirs |= {f"backbone.layers.2.5.bn2.{k}": v for k, v in norm.state_dict().items()}
    ours, dropped = SOURCE.translate(theirs)
    assert dropped == {"backbone.layers.2.5.conv2.bias": FOLDED}
    assert len(ours) == 6 and "backbone.bottom_up.res4.5.conv2.bias" not in ours
    x = torch.randn(2, 3, 8, 8)
    expected = norm(conv(x))
    norm.running_mean.copy_(ours["backbone.bottom_up.res4.5.conv2.norm.running_mean"])
    nn.init.zeros_(conv.bias)
    torch.testing.assert_close(norm(conv(x)), expected)


def test_a_bias_without_its_norm_is_left_over():
    with pytest.raises(WeightsError, match=r"backbone\.layers\.2\.5\.conv2\.bias"):
        SOURCE.translate({"backbone.layers.2.5.conv2.bias": torch.zeros(4)})


def darknet():
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.FREEZE_AT = "build_darknet_yolact_fpn_backbone", 0
    cfg.MODEL.FPN.IN_FEATURES = ["stage3", "stage4", "stage5"]
    model = nn.Module()
    model.backbone = build_backbone(cfg, ShapeSpec(channels=3))
    model.head = nn.Conv2d(256, 1, 1)
    return model


@pytest.mark.slow
def test_imagenet_darknet_fills_the_backbone(tmp_path, caplog):
    shapes = darknet_entries()
    assert DARKNET.recognizes(shapes) and not DARKNET.recognizes(published("yolact_darknet53"))
    generator = torch.Generator().manual_seed(0)
    values = {k: torch.rand(v, generator=generator) for k, v in shapes.items()}
    torch.save({**values, "fc.weight": torch.zeros(2, 2)}, tmp_path / "darknet53.pth")
    model = darknet()
    with caplog.at_level("INFO"):
        Checkpointer(model).load(str(tmp_path / "darknet53.pth"))
    state = model.state_dict()
    converted = DARKNET.translate(values).weights
    assert len(converted) == 52 * 6
    for key, value in converted.items():
        assert torch.equal(state[f"backbone.bottom_up.{key}"], value.to(state[f"backbone.bottom_up.{key}"].dtype)), key


def test_checkpointer_names_the_file_with_left_overs(tmp_path):
    values = {"prediction_layers.0.bbox_layer.weight": torch.zeros(1), "fpn.lat_layers.0.weight": torch.zeros(1)}
    torch.save({**values, "more": torch.zeros(1)}, tmp_path / "yolact_base_54_800000.pth")
    with pytest.raises(
        ValueError, match=r"yolact_base_54_800000\.pth: YOLACT of the authors has no place for 1 entry .*: more"
    ):
        Checkpointer(nn.Linear(2, 2)).load(str(tmp_path / "yolact_base_54_800000.pth"))
