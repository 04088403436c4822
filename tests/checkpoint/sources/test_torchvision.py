import pytest
import torch
import torchvision
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from torch import nn

from centermask_solo import add_centermask_solo_config
from centermask_solo.checkpoint import Checkpointer
from centermask_solo.checkpoint.sources import find_source
from centermask_solo.checkpoint.sources.torchvision import SOURCE, SOURCE_D
from tests.checkpoint.sources.backbones import resnet_d_shapes, tensors

MODELS = {
    "resnet18": {"DEPTH": 18, "RES2_OUT_CHANNELS": 64},
    "resnet34": {"DEPTH": 34, "RES2_OUT_CHANNELS": 64},
    "resnet50": {"DEPTH": 50},
    "resnet101": {"DEPTH": 101},
    "resnext101_64x4d": {"DEPTH": 101, "NUM_GROUPS": 64, "WIDTH_PER_GROUP": 4},
}


def build(fpn: bool = False, **options):
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.MODEL.BACKBONE.NAME = "build_deform_resnet_fpn_backbone" if fpn else "build_deform_resnet_backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False
    for key, value in options.items():
        cfg.MODEL.RESNETS[key] = value
    return build_backbone(cfg, ShapeSpec(channels=3))


@pytest.mark.parametrize("name", MODELS)
def test_every_name_and_shape_has_its_place(name):
    with torch.device("meta"):
        theirs = getattr(torchvision.models, name)().state_dict()
        ours = build(**MODELS[name]).state_dict()
    assert SOURCE.recognizes(theirs) and not SOURCE.recognizes(ours)
    converted = {k: tuple(v.shape) for k, v in SOURCE.translate(theirs).weights.items()}
    assert converted == {k: tuple(v.shape) for k, v in ours.items()}


def test_features_are_the_same():
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18().eval()
    ours = build(**MODELS["resnet18"]).eval()
    for name, buffer in theirs.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    ours.load_state_dict(SOURCE.translate(theirs.state_dict()).weights, strict=True)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        y = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
        y = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(y))))
        torch.testing.assert_close(ours(x)["res5"], y, rtol=1e-4, atol=1e-4)


def test_a_detector_loads_the_file(tmp_path):
    """As MODEL.WEIGHTS: the backbone is filled, wherever it sits; deformable offsets and the rest keep their values."""
    path = tmp_path / "resnet50.pth"
    values = torchvision.models.resnet50().state_dict()
    torch.save(values, path)
    model = nn.Module()
    model.backbone = build(fpn=True, DEPTH=50, DEFORM_ON_PER_STAGE=[False, True, True, True])
    model.head = nn.Conv2d(256, 1, 1)
    head = model.head.weight.clone()
    Checkpointer(model).load(str(path))
    state = model.state_dict()
    assert torch.equal(state["backbone.bottom_up.stem.conv1.weight"], values["conv1.weight"])
    for key, value in SOURCE.translate(values).weights.items():
        assert torch.equal(state[f"backbone.bottom_up.{key}"], value), key
    assert torch.equal(model.head.weight, head)


RESNET_D = {"DEPTH": 50, "STEM_TYPE": "deep", "POOL_SHORTCUTS": True}


def test_a_resnet_d_has_a_place_for_every_name():
    with torch.device("meta"):
        theirs = tensors(resnet_d_shapes())
        ours = build(**RESNET_D).state_dict()
    assert find_source(theirs) is SOURCE_D and find_source(torchvision.models.resnet18().state_dict()) is SOURCE
    converted = {k: tuple(v.shape) for k, v in SOURCE_D.translate(theirs).weights.items()}
    assert converted == {k: tuple(v.shape) for k, v in ours.items()}


def test_a_resnet_d_of_timm_computes_the_same():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    theirs = timm.create_model("resnet50d").eval()
    assert {key: tuple(x.shape) for key, x in theirs.state_dict().items()} == resnet_d_shapes()
    for name, buffer in theirs.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    ours = build(**RESNET_D).eval()
    ours.load_state_dict(SOURCE_D.translate(theirs.state_dict()).weights, strict=True)
    x = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        torch.testing.assert_close(ours(x)["res5"], theirs.forward_features(x), rtol=1e-3, atol=1e-4)
