"""What a weight file is, as data and as text."""

import json

import torch
from detectron2.modeling import build_model

from centermask_solo import model_zoo
from centermask_solo.model_zoo.inspection import format_inspection, inspect_weights
from tests.checkpoint.sources.backbones import tensors, timm_vovnet
from tests.checkpoint.sources.test_yolact import published


def inspect(path, content):
    torch.save(content, path)
    found = inspect_weights(str(path))
    assert json.loads(json.dumps(found)) == found
    return found, format_inspection(found).splitlines()


def test_published_detector(tmp_path):
    path = tmp_path / "yolact_plus_resnet50_54_800000.pth"
    found, lines = inspect(path, tensors(published("yolact_plus_resnet50")))
    folded = found["left_out"].popitem()[1]
    assert len(folded) == 13 and not found["left_out"]
    assert found | {"left_out": 0} == {
        "file": str(path),
        "source": "YOLACT of the authors",
        "system": "YOLACT",
        "entries": 405,
        "backbone": {"kind": "ResNet", "body": "50", "deformable": ["res3", "res4", "res5"], "modulated": True},
        "num_classes": 80,
        "thing_classes": None,
        "images": {"format": "RGB", "mean": [123.68, 116.78, 103.94], "std": [58.40, 57.12, 57.38], "certain": True},
        "has_config": False,
        "configs": [{"name": "YOLACT/yolact_plus_resnet50.yaml", "options": {}}],
        "config": "YOLACT/yolact_plus_resnet50.yaml",
        "left_out": 0,
    }
    images = "INPUT.FORMAT RGB MODEL.PIXEL_MEAN '[123.68, 116.78, 103.94]' MODEL.PIXEL_STD '[58.4, 57.12, 57.38]'"
    assert lines[:-1] == [
        f"file      {path}, 405 entries",
        "source    YOLACT of the authors",
        "system    YOLACT",
        "backbone  ResNet-50, DCNv2 in res3, res4, res5",
        "classes   80; the file does not name them",
        f"images    {images}",
        "config    YOLACT/yolact_plus_resnet50.yaml",
    ]
    assert lines[-1].startswith("left out  a bias in front of a batch norm:")
    assert lines[-1].endswith(f": {folded[0]} and 12 more")


def test_several_configs(tmp_path):
    _, lines = inspect(tmp_path / "yolact_im400_1_2.pth", tensors(published("yolact_base")))
    at = lines.index("config    YOLACT/yolact_im400.yaml")
    assert lines[at + 1] == "          (the shapes also fit YOLACT/yolact_base.yaml, YOLACT/yolact_im700.yaml)"
    found, lines = inspect(tmp_path / "x.pth", tensors(published("yolact_base")))
    assert found["config"] is None
    at = lines.index("config    one of these, which predict differently:")
    assert [line.strip() for line in lines[at + 1 : at + 4]] == [config["name"] for config in found["configs"]]
    assert lines[-1] == "left out  nothing"


def test_bare_backbone(tmp_path):
    found, lines = inspect(tmp_path / "x.pth", tensors(timm_vovnet("V-39-eSE")))
    assert found["system"] is found["num_classes"] is found["config"] is None
    assert "system    none: a bare backbone, which training can start from" in lines
    assert "config    CenterMask/centermask_V_39_eSE_FPN_ms_3x.yaml, with the images above" in lines
    assert not any(line.startswith("classes") for line in lines)
    assert "left out  the ImageNet classifier, which a detector does not have: head.fc.weight and 1 more" in lines


def test_file_of_this_package(tmp_path):
    cfg = model_zoo.get_config("shapes/solov2_shapes.yaml")
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        state = build_model(cfg).state_dict()
    content = {"model": state, "config": cfg.dump(), "thing_classes": list("abcdefghij")}
    found, lines = inspect(tmp_path / "model_final.pth", content)
    assert found["has_config"] and found["images"]["certain"]
    assert lines[1:] == [
        "source    SOLOv2 of this package",
        "system    SOLOv2",
        "backbone  MobileNetV2",
        "classes   10: a, b, c, d, e, f, g, h, i, j",
        "images    INPUT.FORMAT RGB MODEL.PIXEL_MEAN '[123.675, 116.28, 103.53]' "
        "MODEL.PIXEL_STD '[58.395, 57.12, 57.375]'",
        "config    the one inside the file",
        "left out  nothing",
    ]


def test_what_is_not_known_is_said(tmp_path):
    """A file that holds the weights of a fine-tuned model alone."""
    cfg = model_zoo.get_config("CenterMask/centermask_lite_V_19_eSE_FPN_ms_4x.yaml")
    cfg.merge_from_list(["MODEL.DEVICE", "meta", "MODEL.ROI_HEADS.NUM_CLASSES", 5])
    with torch.device("meta"):
        state = build_model(cfg).state_dict()
    _, lines = inspect(tmp_path / "x.pth", state)
    assert "classes   5; the file does not name them" in lines
    assert lines[5].endswith(", unless the training was not the published one")
    assert lines[6] == ("config    CenterMask/centermask_lite_V_19_eSE_FPN_ms_4x.yaml MODEL.ROI_HEADS.NUM_CLASSES 5")
