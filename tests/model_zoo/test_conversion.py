"""Converted weights of any source predict without a config or class names from elsewhere."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from detectron2.config import get_cfg
from detectron2.modeling import build_model

from centermask_solo import add_centermask_solo_config, model_zoo
from centermask_solo.checkpoint import read_weight_file
from centermask_solo.config import merge_config
from centermask_solo.inference.predictor import Predictor
from centermask_solo.model_zoo import find_config
from centermask_solo.model_zoo.conversion import COCO_CLASSES, convert_weights
from centermask_solo.utils.errors import ConfigError, WeightsError
from tests.checkpoint.sources.backbones import tensors, torchvision_shapes
from tests.checkpoint.sources.test_yolact import published

SMALL = "shapes/solov2_shapes.yaml"
CLASSES = list("abcdefghij")


@pytest.fixture
def small_state():
    """Of a small SOLOv2 with 10 classes, whose scores are high enough to find something."""
    torch.manual_seed(1)
    state = build_model(model_zoo.get_config(SMALL)).state_dict()
    state["ins_head.cate_pred.bias"] += 4
    return state


def save(path, content):
    torch.save(content, path)
    return str(path)


def test_it_predicts_what_the_original_predicts(small_state, tmp_path):
    """Without a config and without a dataset; the backbone's statistics and all."""
    original = save(tmp_path / "theirs.pth", {"state_dict": small_state, "meta": {"epoch": 3}, "optimizer": {}})
    target = str(tmp_path / "folder" / "ours.pth")
    done = convert_weights(original, target, config_file=SMALL, thing_classes=CLASSES)
    assert (done.config, done.thing_classes, done.left_out) == (SMALL, CLASSES, [])
    (tmp_path / "folder" / "config.yaml").write_text("of: another model\n")
    fresh = get_cfg()
    add_centermask_solo_config(fresh)
    device = fresh.MODEL.DEVICE
    merge_config(fresh, find_config(target), ["MODEL.WEIGHTS", target])
    assert device == fresh.MODEL.DEVICE
    expected_cfg = model_zoo.get_config(SMALL)
    expected_cfg.MODEL.WEIGHTS = original
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    ours, theirs = Predictor(fresh), Predictor(expected_cfg)
    assert ours.metadata.thing_classes == CLASSES
    found, expected = (predictor(image)["instances"] for predictor in (ours, theirs))
    assert len(found) > 0
    assert torch.equal(found.scores, expected.scores)
    assert torch.equal(found.pred_masks, expected.pred_masks)


@pytest.mark.parametrize("name", ["yolact_resnet50", "yolact_darknet53"])
def test_the_config_and_the_names_of_coco_come_by_themselves(name, tmp_path):
    path = save(tmp_path / f"{name}_54_800000.pth", tensors(published(name)))
    done = convert_weights(path, str(tmp_path / "ours.pth"))
    assert (done.source, done.config) == ("YOLACT of the authors", f"YOLACT/{name}.yaml")
    file = read_weight_file(str(tmp_path / "ours.pth"))
    assert file.source.name == "YOLACT of this package"
    assert file.thing_classes == done.thing_classes == COCO_CLASSES
    assert COCO_CLASSES[0] == "person" and COCO_CLASSES[-1] == "toothbrush" and len(COCO_CLASSES) == 80
    assert file.pixel_format.agrees_with(read_weight_file(path).pixel_format)
    fresh = get_cfg()
    add_centermask_solo_config(fresh)
    merge_config(fresh, find_config(str(tmp_path / "ours.pth")), [])
    published_cfg = model_zoo.get_config(f"YOLACT/{name}.yaml")
    published_cfg.MODEL.WEIGHTS = ""
    assert yaml.safe_load(fresh.dump()) == yaml.safe_load(published_cfg.dump())  # in which tuples are lists


def test_images_are_those_of_the_weights_whatever_the_config_says(tmp_path):
    path = save(tmp_path / "yolact.pth", tensors(published("yolact_resnet50")))
    base = model_zoo.get_config_file("YOLACT/yolact_resnet50.yaml")
    (tmp_path / "mine.yaml").write_text(
        f"_BASE_: {base}\nINPUT: {{FORMAT: BGR, MIN_SIZE_TEST: 123}}\nMODEL: {{PIXEL_STD: [1.0, 1.0, 1.0]}}\n"
    )
    done = convert_weights(path, str(tmp_path / "ours.pth"), config_file=str(tmp_path / "mine.yaml"))
    assert str(done.images).startswith("INPUT.FORMAT RGB MODEL.PIXEL_MEAN '[123.68, ")
    assert (done.cfg.INPUT.FORMAT, done.cfg.INPUT.MIN_SIZE_TEST, done.cfg.MODEL.PIXEL_STD[0]) == ("RGB", 123, 58.4)


def test_images_of_a_given_config_stand_where_the_source_is_not_certain(small_state, tmp_path):
    path = save(tmp_path / "adelaidet.pth", {"model": small_state})
    assert read_weight_file(path).pixel_format.channels == "BGR"
    done = convert_weights(path, str(tmp_path / "ours.pth"), config_file=SMALL)
    assert done.images.channels == "RGB"


def test_a_checkpoint_of_a_training_keeps_its_config(small_state, tmp_path):
    trained = model_zoo.get_config(SMALL)
    trained.TEST.DETECTIONS_PER_IMAGE = 7
    trained.MODEL.DEVICE = "cuda"
    content = {"model": small_state, "config": trained.dump(), "thing_classes": CLASSES, "optimizer": {}}
    path = save(tmp_path / "model_final.pth", content)
    done = convert_weights(path, str(tmp_path / "ours.pth"))
    assert done.config == f"the one inside {path}" and done.thing_classes == CLASSES
    assert done.cfg.TEST.DETECTIONS_PER_IMAGE == 7
    assert (done.cfg.MODEL.DEVICE == "cuda") is torch.cuda.is_available()
    assert torch.load(tmp_path / "ours.pth", weights_only=True).keys() == {"model", "config", "thing_classes"}


def test_number_of_classes_is_that_of_the_weights(small_state, tmp_path):
    state = copy.copy(small_state)
    for name in ("weight", "bias"):
        state[f"ins_head.cate_pred.{name}"] = state[f"ins_head.cate_pred.{name}"][:2]
    path = save(tmp_path / "x.pth", {"model": state})
    done = convert_weights(path, str(tmp_path / "ours.pth"), config_file=SMALL)
    assert done.cfg.MODEL.SOLOV2.NUM_CLASSES == 2
    assert done.thing_classes is None
    assert "thing_classes" not in torch.load(tmp_path / "ours.pth", weights_only=True)


def test_parts_that_the_config_does_not_build_are_left_out(tmp_path):
    shapes = published("yolact_plus_resnet50")
    path = save(tmp_path / "yolact_plus_resnet50_54_800000.pth", tensors(shapes))
    base = model_zoo.get_config_file("YOLACT/yolact_plus_resnet50.yaml")
    (tmp_path / "mine.yaml").write_text(f"_BASE_: {base}\nMODEL: {{YOLACT: {{MASK_IOU: {{ENABLED: False}}}}}}\n")
    done = convert_weights(path, str(tmp_path / "ours.pth"), config_file=str(tmp_path / "mine.yaml"))
    assert done.left_out == ["mask_iou_head"]
    assert not any("mask_iou" in key for key in torch.load(tmp_path / "ours.pth", weights_only=True)["model"])


def test_errors_are_one_line_and_leave_nothing(small_state, tmp_path):
    theirs = save(tmp_path / "theirs.pth", {"model": small_state})
    target = str(tmp_path / "ours.pth")
    cases = [
        ((theirs, theirs), {"overwrite": True}, ConfigError, r"theirs\.pth is an input, which would be lost"),
        (
            (theirs, str(tmp_path / "ours.pkl")),
            {},
            ConfigError,
            r"ours\.pkl has no known format: .* ends in \.pth or \.safetensors",
        ),
        ((theirs, target), {"thing_classes": ["a"]}, ConfigError, r"has 10 classes, but 1 name given"),
        (
            (theirs, target),
            {"config_file": "YOLACT/yolact_base.yaml"},
            WeightsError,
            r"SOLOv2 of AdelaiDet, .* is of a YOLACT",
        ),
        (
            (theirs, target),
            {"config_file": "SOLOv2/solov2_R_50_3x.yaml"},
            WeightsError,
            r"does not fit SOLOv2/solov2_R_50_3x\.yaml: ",
        ),
    ]
    for args, options, kind, message in cases:
        with pytest.raises(kind, match=message) as caught:
            convert_weights(*args, **options)
        assert "\n" not in str(caught.value)
    backbone = save(tmp_path / "resnet50.pth", tensors(torchvision_shapes("resnet50")))
    with pytest.raises(WeightsError, match="is a backbone without a detector, which needs no conversion"):
        convert_weights(backbone, target)
    several = save(tmp_path / "several.pth", tensors(published("yolact_base")))
    with pytest.raises(
        WeightsError, match=r"3 configs fit .*several\.pth .* --config-file .*, of YOLACT/yolact_base\.yaml, "
    ):
        convert_weights(several, target)
    none = save(tmp_path / "none.pth", tensors({**published("yolact_base"), "proto_net.10.weight": (64, 256, 1, 1)}))
    with pytest.raises(WeightsError, match=r"no config of this package fits .*none\.pth"):
        convert_weights(none, target)
    assert not (tmp_path / "ours.pth").exists()
    Path(target).write_bytes(b"dear")
    with pytest.raises(ConfigError, match=r"ours\.pth exists already: choose another name, or replace it with --over"):
        convert_weights(theirs, target, config_file=SMALL)
    assert Path(target).read_bytes() == b"dear"
    convert_weights(theirs, target, config_file=SMALL, overwrite=True)
    assert read_weight_file(target).source.name == "SOLOv2 of this package"
