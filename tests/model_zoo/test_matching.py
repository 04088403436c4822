"""Weights are matched to their config by shapes and images, and by exact file names."""

import pytest
import torch
from detectron2.modeling import build_model

from centermask_solo import model_zoo
from centermask_solo.checkpoint import read_weight_file
from centermask_solo.model_zoo import Model, models
from centermask_solo.model_zoo.matching import match_configs
from centermask_solo.model_zoo.weights import sha256_of
from tests.checkpoint.sources import backbones, detectors
from tests.checkpoint.sources.backbones import tensors
from tests.checkpoint.sources.test_yolact import published


def save(path, shapes):
    torch.save(tensors(shapes), path)
    return read_weight_file(str(path))


def model_file(path, config, *options):
    """Write a file as AdelaiDet or CenterMask's authors would."""
    cfg = model_zoo.get_config(config)
    cfg.merge_from_list(list(options))
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        torch.save({"model": build_model(cfg).state_dict()}, path)
    return read_weight_file(str(path))


def names(file):
    return [candidate.name for candidate in match_configs(file).candidates]


def chosen(file):
    candidate = match_configs(file).chosen
    return candidate and candidate.name


@pytest.mark.parametrize(
    "config",
    [
        "CenterMask/centermask_V_39_eSE_dcn_FPN_ms_3x.yaml",
        "CenterMask/centermask_X_101_FPN_ms_3x.yaml",
        "CenterMask/centermask_lite_Mv2_FPN_ms_4x.yaml",
        "CenterMask/panoptic_centermask_R_50_FPN_ms_3x.yaml",
        "SOLOv2/solov2_R_101_3x.yaml",
        "SOLOv2/panoptic_solov2_R_50_3x.yaml",
        "SOLOv2/lvis_solov2_R_50_3x.yaml",
    ],
)
def test_one_config_fits_a_published_model_of_detectron2_names(config, tmp_path):
    file = model_file(tmp_path / "model_final.pth", config)
    assert names(file) == [config]
    assert chosen(file) == config


@pytest.mark.parametrize("config", ["yolact_darknet53", "yolact_plus_base", "yolact_resnet50_pascal"])
def test_one_config_fits_a_published_yolact(config, tmp_path):
    file = save(tmp_path / "model.pth", published(config))
    assert names(file) == [f"YOLACT/{config}.yaml"]


def test_configs_that_differ_in_training_alone_are_one(tmp_path):
    file = model_file(tmp_path / "model.pth", "SOLOv2/solov2_R_50_3x.yaml")
    assert names(file) == ["SOLOv2/solov2_R_50_1x.yaml", "SOLOv2/solov2_R_50_3x.yaml"]
    assert chosen(file) == "SOLOv2/solov2_R_50_1x.yaml"


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("yolact_im700_54_800000.pth", "YOLACT/yolact_im700.yaml"),
        ("yolact_base_54_800000.pth", "YOLACT/yolact_base.yaml"),
        ("yolact_im400_3_interrupt.pth", "YOLACT/yolact_im400.yaml"),
        ("weights.pth", None),
        ("yolact_im700.pth", None),  # neither published under this name nor written by the authors' training
        ("yolact_im700_mine_54_800000.pth", None),
        ("my_yolact_im700_54_800000.pth", None),
        ("yolact_base_54_800000.pth.bak", None),
    ],
)
def test_exact_file_names_decide_between_equal_shapes(name, config, tmp_path):
    file = save(tmp_path / name, published("yolact_base"))
    assert set(names(file)) == {f"YOLACT/yolact_{x}.yaml" for x in ("base", "im400", "im700")}
    assert config in (None, names(file)[0])
    assert chosen(file) == config


def test_the_sha256_of_a_published_file_decides(tmp_path, monkeypatch):
    file = save(tmp_path / "renamed.pth", published("yolact_base"))
    assert chosen(file) is None
    release = model_zoo.find_model("YOLACT/yolact_im700.yaml").release
    row = Model("YOLACT/yolact_im700.yaml", "", "", release, file="x.pth", sha256=sha256_of(file.path))
    monkeypatch.setattr(models, "_all_models", lambda: (row,))
    assert chosen(file) == "YOLACT/yolact_im700.yaml"


def test_rows_of_the_classes_agree_with_each_other(tmp_path):
    """A file whose class layers count different numbers of classes fits no config."""
    shapes = detectors.centermask(detectors.CenterMask("resnet50"), 20)
    assert names(save(tmp_path / "x.pth", shapes)) == ["CenterMask/centermask_R_50_FPN_ms_3x.yaml"]
    shapes["roi_heads.mask_head.predictor.weight"] = (80, 256, 1, 1)
    assert names(save(tmp_path / "x.pth", shapes)) == []


def test_another_number_of_classes_is_an_option(tmp_path):
    file = model_file(tmp_path / "x.pth", "CenterMask/centermask_R_50_FPN_ms_3x.yaml", "MODEL.ROI_HEADS.NUM_CLASSES", 5)
    (candidate,) = match_configs(file).candidates
    assert candidate.options == {"MODEL.ROI_HEADS.NUM_CLASSES": 5}


def test_a_bare_backbone_has_the_configs_that_can_start_from_it(tmp_path):
    file = save(tmp_path / "x.pth", backbones.vovnet("V-99-eSE"))
    candidates = match_configs(file).candidates
    assert {candidate.name for candidate in candidates} == {
        f"CenterMask/{name}.yaml"
        for name in (
            "centermask_V_99_eSE_FPN_ms_3x",
            "centermask_V_99_eSE_dcn_FPN_ms_3x",
            "panoptic_centermask_V_99_eSE_FPN_ms_3x",
        )
    }
    assert not any(candidate.options for candidate in candidates)
    file = save(tmp_path / "y.pth", backbones.timm_vovnet("V-99-eSE"))
    assert len(match_configs(file).candidates) == 3
    assert all(candidate.options["INPUT.FORMAT"] == "RGB" for candidate in match_configs(file).candidates)


def test_no_config_fits(tmp_path):
    file = save(tmp_path / "x.pth", {**published("yolact_resnet50"), "proto_net.10.weight": (64, 256, 1, 1)})
    assert match_configs(file).candidates == []
    assert chosen(file) is None
