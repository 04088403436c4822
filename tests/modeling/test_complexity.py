"""Multiply-adds and parameters of the parts of models, against numbers made by hand and by others."""

import pytest
import torch
import torchvision
from detectron2.config import CfgNode
from torch import nn

from centermask_solo.model_zoo import get_config
from centermask_solo.modeling.complexity import Part, _counted, count_parts, part_of
from centermask_solo.modeling.layers import DeformConv2d
from centermask_solo.modeling.parts import build_empty
from centermask_solo.utils.errors import ConfigError
from tests.modeling.models import SYSTEMS


def empty(name):
    cfg = get_config(name)
    cfg.MODEL.WEIGHTS = ""
    return build_empty(cfg)


def macs_of(model, *shape):
    found = {}
    with torch.no_grad(), _counted(model, found):
        model(torch.zeros(*shape))
    return found


def test_a_convolution_and_a_matrix_product():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 5 * 6, 7))
    assert macs_of(model, 2, 3, 10, 12) == {"0": 2 * 8 * 5 * 6 * 3 * 9, "3": 2 * 8 * 5 * 6 * 7}


@pytest.mark.parametrize("groups", [1, 2])
def test_a_deformable_convolution_is_an_ordinary_one_and_that_of_its_offsets(groups):
    conv = DeformConv2d(4, 6, 3, padding=1, groups=groups, modulated=True, bias=True)
    found = macs_of(nn.Sequential(conv), 1, 4, 5, 7)
    assert found == {"0": 5 * 7 * 9 * 4 * (6 // groups) + 5 * 7 * 9 * 4 * 27}


def test_resnet_50_has_its_published_size():
    """4.09 billion, as torchvision states it."""
    with torch.device("meta"):
        model = torchvision.models.resnet50(weights=None).eval()
        found = macs_of(model, 1, 3, 224, 224)
    assert sum(found.values()) == pytest.approx(4.09e9, rel=2e-3)


def test_parts_of_a_model():
    parts = {x.name: x for x in count_parts(empty("YOLACT/yolact_resnet50.yaml"), (550, 550))}
    assert list(parts) == ["backbone", "backbone.bottom_up", "protonet", "head", "sem_seg_head"]
    # Three convolutions at 69 pixels, one and the prototypes at 138
    assert parts["protonet"].macs == 3 * 69**2 * 9 * 256**2 + 138**2 * (9 * 256**2 + 256 * 32)
    assert parts["protonet"].parameters == 4 * (9 * 256**2 + 256) + 256 * 32 + 32
    assert parts["sem_seg_head"] == Part("sem_seg_head", 256 * 80 + 80, 0)  # for training only
    at_224 = {x.name: x for x in count_parts(empty("YOLACT/yolact_resnet50.yaml"), (224, 224))}
    assert at_224["backbone.bottom_up"].macs == pytest.approx(4.09e9 - 2048 * 1000, rel=2e-3)  # without classifier


def test_the_second_stage_counts_each_box():
    name = "CenterMask/centermask_R_50_FPN_ms_3x.yaml"
    few, many = ({x.name: x for x in count_parts(empty(name), (256, 320), boxes)} for boxes in (10, 30))
    for part in ("roi_heads.mask_head", "roi_heads.maskiou_head"):
        assert many[part].macs == 3 * few[part].macs > 0
    assert many["proposal_generator.fcos_head"] == few["proposal_generator.fcos_head"]


@pytest.mark.parametrize(
    "name, part, macs",
    [
        # 1,000 proposals of 7 x 7 x 256 numbers
        ("baselines/mask_rcnn_R_50_FPN_3x.yaml", "roi_heads.box_head", 1000 * (49 * 256 * 1024 + 1024**2)),
        ("baselines/fast_rcnn_R_50_FPN_1x.yaml", "roi_heads.box_head", 1000 * (49 * 256 * 1024 + 1024**2)),
        # Four convolutions in two towers, classes and boxes of nine anchors, at strides 8 to 128 of 256 x 256
        ("baselines/retinanet_R_50_FPN_3x.yaml", "head", (32**2 + 16**2 + 64 + 16 + 4) * 9 * 256 * (2048 + 9 * 84)),
        ("CenterMask/panoptic_centermask_R_50_FPN_ms_3x.yaml", "sem_seg_head", None),
        ("YOLACT/yolact_plus_resnet50.yaml", "mask_iou_head", None),
    ],
)
def test_parts_that_run_after_the_first_stage(name, part, macs):
    found = {x.name: x.macs for x in count_parts(empty(name), (256, 256))}[part]
    assert found > 0 and macs in (None, found)


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_counts_all_of_its_parameters(name):
    model = SYSTEMS[name].model()
    parts = count_parts(model, (64, 64))
    assert sum(x.parameters for x in parts) == sum(x.numel() for x in model.parameters())
    assert {x.name for x in parts if not x.macs} <= {"sem_seg_head"}
    assert model.training


def test_parts_by_name():
    assert part_of("backbone.bottom_up.stem.conv1.weight") == "backbone.bottom_up"
    assert part_of("backbone.fpn_lateral2.weight") == "backbone"
    assert part_of("roi_heads.mask_head.deconv.bias") == "roi_heads.mask_head"


def test_other_models_are_refused():
    model = nn.Conv2d(3, 3, 1)
    model.pixel_mean = CfgNode({"a": 1})
    with pytest.raises(ConfigError, match="the networks of a Conv2d are not known here"):
        count_parts(model, (8, 8))
