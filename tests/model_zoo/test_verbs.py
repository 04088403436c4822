"""Detectron2's verbs: config file, config, address, model."""

import re
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

from centermask_solo import model_zoo
from centermask_solo.config import config_dir
from centermask_solo.inference.predictor import Predictor
from centermask_solo.model_zoo import Model, find_config, models
from centermask_solo.utils.errors import ConfigError, WeightsError

SMALL = "shapes/solov2_shapes.yaml"


@pytest.fixture
def small_weights(tmp_path, monkeypatch):
    """The small model of the demo as if it were published, in the local folder; its state dict."""
    release = model_zoo.find_model("SOLOv2/solov2_R_50_3x.yaml").release
    row = Model(SMALL, "MobileNetV2", "", release, file="small.pth")
    monkeypatch.setattr(models, "_all_models", lambda: (row,))
    monkeypatch.setenv("CENTERMASK_SOLO_WEIGHTS", str(tmp_path))
    torch.manual_seed(1)
    state = build_model(model_zoo.get_config(SMALL)).state_dict()
    torch.save({"model": state}, tmp_path / "small.pth")
    return state


def test_config_file():
    path = model_zoo.get_config_file("YOLACT/yolact_base.yaml")
    assert Path(path) == config_dir() / "YOLACT" / "yolact_base.yaml"
    with pytest.raises(ConfigError, match=r"the nearest one is .*yolact_base\.yaml"):
        model_zoo.get_config_file("YOLACT/yolact_bass.yaml")


def test_config_has_the_options_of_the_file():
    cfg = model_zoo.get_config("SOLOv2/solov2_R_101_3x.yaml")
    assert (cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.RESNETS.DEPTH) == ("SOLOv2", 101)
    assert cfg.MODEL.WEIGHTS == "detectron2://ImageNetPretrained/MSRA/R-101.pkl"


def test_trained_config_names_the_published_weights():
    cfg = model_zoo.get_config("SOLOv2/solov2_R_101_3x.yaml", trained=True)
    assert cfg.MODEL.WEIGHTS == "centermask_solo://SOLOv2/solov2_R_101_3x.yaml"
    with pytest.raises(ConfigError, match="is not a published model"):
        model_zoo.get_config(SMALL, trained=True)


def test_checkpoint_url():
    url = model_zoo.get_checkpoint_url("CenterMask/centermask_lite_Mv2_FPN_ms_4x.yaml")
    assert url == "https://dl.dropbox.com/s/8omou546f0n78nj/centermask_lite_Mv2_ms_4x.pth"
    with pytest.raises(WeightsError, match=r"no address .* SOLOv2/solov2_R_50_3x\.yaml is known \(no address\)"):
        model_zoo.get_checkpoint_url("SOLOv2/solov2_R_50_3x.yaml")
    with pytest.raises(WeightsError, match=r"is known \(not published\)"):
        model_zoo.get_checkpoint_url("YOLACT/yolact_im400.yaml")


def test_model_with_published_weights(small_weights):
    model = model_zoo.get(SMALL, trained=True, device="cpu")
    assert model.training
    assert model.device == torch.device("cpu")
    state = model.state_dict()
    assert state.keys() == small_weights.keys()
    assert all(torch.equal(value, small_weights[key]) for key, value in state.items())


def test_published_weights_must_fill_the_model(small_weights, tmp_path):
    key = next(key for key in small_weights if key.startswith("ins_head"))
    del small_weights[key]
    torch.save({"model": small_weights}, tmp_path / "small.pth")
    with pytest.raises(WeightsError, match=re.escape(key)):
        model_zoo.get(SMALL, trained=True, device="cpu")


def test_untrained_model_starts_from_the_weights_of_the_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the file that the config names is not
    with pytest.raises(WeightsError, match=r"there is no file weights/mobilenet_v2_imagenet\.pth"):
        model_zoo.get(SMALL)


def test_predictor_takes_the_name_of_a_model_as_weights(small_weights):
    name = f"centermask_solo://{SMALL}"
    assert find_config(name) == model_zoo.get_config_file(SMALL)
    cfg = model_zoo.get_config(SMALL, trained=True)
    cfg.MODEL.DEVICE = "cpu"
    assert name == cfg.MODEL.WEIGHTS
    key = next(iter(small_weights))
    assert torch.equal(Predictor(cfg).model.state_dict()[key], small_weights[key])
