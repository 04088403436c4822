"""One call from a weight file to a predictor: with the right config, images and class names."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

import centermask_solo
from centermask_solo import model_zoo
from centermask_solo.cli import main
from centermask_solo.model_zoo.conversion import COCO_CLASSES, convert_weights
from centermask_solo.modeling.systems import find_system
from centermask_solo.utils.errors import ConfigError, WeightsError
from tests.checkpoint.sources.backbones import torchvision_shapes
from tests.checkpoint.sources.test_yolact import published
from tests.modeling.models import SYSTEMS
from tests.test_docs import ROOT, code_blocks

NAMES = ["a", "b", "c"]
CLASS_ROWS = {"prediction_layers.0.conf_layer": 3 * 5, "semantic_seg_conv": 4}  # of 4 classes, 3 anchors


@pytest.fixture
def small(tmp_path, request):
    """A small model of a system as a training leaves it: class names and config in the checkpoint."""
    system = SYSTEMS[getattr(request, "param", "SOLOv2")]
    cfg = system.cfg("INPUT.MIN_SIZE_TEST", 64)
    content = {"model": system.model().state_dict(), "config": cfg.dump(), "thing_classes": NAMES}
    torch.save(content, tmp_path / "model_final.pth")
    return tmp_path / "model_final.pth", cfg


def constants(shapes):
    """Weights that take no space in a file."""
    return {key: torch.tensor(0.01).expand(shape) for key, shape in shapes.items()}


def photo(size=(96, 72)):
    return np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)


def assert_same(found, expected):
    assert torch.equal(found.scores, expected.scores) and torch.equal(found.pred_classes, expected.pred_classes)


@pytest.mark.parametrize("small", ["SOLOv2", "CenterMask", "FCOS", "YOLACT"], indirect=True)
def test_a_checkpoint_needs_nothing_else(small, tmp_path):
    path, cfg = small
    cfg.MODEL.WEIGHTS = str(path)
    expected = centermask_solo.Predictor(cfg)(photo())["instances"]
    predictor = centermask_solo.load(path, device="cpu")
    assert predictor.metadata.thing_classes == NAMES
    assert_same(predictor(photo())["instances"], expected)
    for name in ("converted.pth", "converted.safetensors"):
        convert_weights(str(path), str(tmp_path / "folder" / name))
        converted = centermask_solo.load(str(tmp_path / "folder" / name), device="cpu")
        assert converted.metadata.thing_classes == NAMES
        assert_same(converted(photo())["instances"], expected)
    content = torch.load(path, weights_only=True)
    torch.save({"model": content["model"]}, tmp_path / "plain.pth")
    (tmp_path / "config.yaml").write_text(content["config"])
    beside = centermask_solo.load(str(tmp_path / "plain.pth"), class_names=["x", "y", "z"], device="cpu")
    assert beside.metadata.thing_classes == ["x", "y", "z"]
    assert_same(beside(photo())["instances"], expected)
    with pytest.raises(ConfigError, match="the model has 3 classes, but 2 names given"):
        centermask_solo.load(str(path), class_names=["x", "y"], device="cpu")


def test_raw_weights_of_other_sources(tmp_path):
    """Where names and shapes, or the name of the file, leave no doubt; images, classes and all."""
    for name, file in [("yolact_resnet50", "x.pth"), ("yolact_im700", "yolact_im700_54_800000.pth")]:
        torch.save(constants(published("yolact_base" if name == "yolact_im700" else name)), tmp_path / file)
        predictor = centermask_solo.load(str(tmp_path / file), device="cpu")
        expected = model_zoo.get_config(f"YOLACT/{name}.yaml")
        assert predictor.cfg.MODEL.BACKBONE == expected.MODEL.BACKBONE
        assert (predictor.cfg.INPUT.FORMAT, predictor.cfg.MODEL.PIXEL_MEAN) == ("RGB", expected.MODEL.PIXEL_MEAN)
        assert predictor.metadata.thing_classes == COCO_CLASSES


def test_predict_takes_raw_weights_of_another_number_of_classes(tmp_path, capsys):
    """Their classes have no names: those of COCO, which the config's dataset has, would be wrong."""
    state = published("yolact_resnet50")
    for key, rows in CLASS_ROWS.items():
        for name in ("weight", "bias"):
            state[f"{key}.{name}"] = (rows, *state[f"{key}.{name}"][1:])
    torch.save(constants(state), tmp_path / "yolact_resnet50_54_800000.pth")
    Image.fromarray(photo()).save(tmp_path / "1.png")
    weights = str(tmp_path / "yolact_resnet50_54_800000.pth")
    argv = ["predict", "--weights", weights, "--input", str(tmp_path / "1.png"), "--no-pictures"]
    main([*argv, "--output", str(tmp_path / "out"), "MODEL.DEVICE", "cpu"])
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["categories"] == []


def test_weights_that_leave_doubts(tmp_path):
    torch.save(constants(published("yolact_base")), tmp_path / "x.pth")
    with pytest.raises(
        WeightsError, match=r"3 configs fit .*x\.pth that predict .*: name the right one .* \(in Python: "
    ):
        centermask_solo.load(str(tmp_path / "x.pth"))
    torch.save(constants(torchvision_shapes("resnet50")), tmp_path / "resnet50.pth")
    with pytest.raises(
        ConfigError, match=r"there is no config in .*resnet50\.pth and no .*config\.yaml: name the config"
    ):
        centermask_solo.load(str(tmp_path / "resnet50.pth"))
    with pytest.raises(WeightsError, match=r"there is no file absent\.pth"):
        centermask_solo.load("absent.pth")
    with pytest.raises(
        WeightsError, match=r"is a folder: name the file of the weights in it, such as model_final\.pth"
    ):
        centermask_solo.load(tmp_path)
    named = centermask_solo.load(
        str(tmp_path / "x.pth"), config_file="YOLACT/yolact_im400.yaml", device="cpu", opts=["INPUT.FORMAT", "RGB"]
    )
    assert named.cfg.MODEL.YOLACT.INPUT_SIZE == 400


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize(("device", "message"), [("cuda", "no GPU is usable"), ("gpu", "is not a device of PyTorch")])
def test_a_device_that_cannot_be_used(small, device, message):
    with pytest.raises(ConfigError, match=f"MODEL.DEVICE .*{message}"):
        centermask_solo.load(small[0], device=device)
    with pytest.raises(ConfigError, match=f"MODEL.DEVICE .*{message}"):
        model_zoo.get("shapes/solov2_shapes.yaml", device=device)


def test_an_option_without_a_value_is_named(small):
    with pytest.raises(ConfigError, match=r"'MODEL\.DEVICE' has no value"):
        centermask_solo.load(small[0], opts=["MODEL.DEVICE"])


def test_number_of_classes_that_is_auto_is_that_of_the_weights(small, tmp_path):
    path, cfg = small
    key = find_system(cfg.MODEL.META_ARCHITECTURE).num_classes_key
    assert centermask_solo.load(str(path), opts=[key, "auto"], device="cpu").metadata.thing_classes == NAMES


def test_the_example_of_the_readme(small, tmp_path, monkeypatch, capsys):
    """With the names of the classes that the checkpoint holds."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photo()).save(tmp_path / "photo.jpg")
    example = next(block for block in code_blocks(ROOT / "README.md", "python") if "load(" in block)
    capsys.readouterr()
    namespace = {}
    exec(compile(example, "README.md", "exec"), namespace)
    assert len(namespace["instances"]) > 0
    printed = capsys.readouterr().out
    assert set(re.findall(r"'(\w)'", printed)) and set(re.findall(r"'(\w+)'", printed)) <= set(NAMES)
