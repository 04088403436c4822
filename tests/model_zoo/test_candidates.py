"""The config that weights belong to is found by shapes, images and the name of the file."""

import pytest
import torch
from detectron2.modeling import build_model

from centermask_solo import model_zoo
from centermask_solo.checkpoint.contents import read_contents
from centermask_solo.model_zoo.candidates import choose_candidate, find_candidates
from tests.checkpoint.sources import backbones
from tests.checkpoint.sources.backbones import tensors
from tests.checkpoint.sources.test_yolact import published


def save(path, shapes):
    torch.save(tensors(shapes), path)
    return read_contents(str(path))


def model_file(path, config, *options):
    """As AdelaiDet or CenterMask's authors would write it."""
    cfg = model_zoo.get_config(config)
    cfg.merge_from_list(list(options))
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        torch.save({"model": build_model(cfg).state_dict()}, path)
    return read_contents(str(path))


def chosen(contents):
    candidate = choose_candidate(contents, find_candidates(contents))
    return candidate and candidate.name


@pytest.mark.parametrize(
    "config",
    [
        "CenterMask/centermask_V_39_eSE_dcn_FPN_ms_3x.yaml",
        "CenterMask/centermask_X_101_FPN_ms_3x.yaml",
        "CenterMask/centermask_lite_Mv2_FPN_ms_4x.yaml",
        "CenterMask/panoptic_centermask_R_50_FPN_ms_3x.yaml",
        "SOLOv2/solov2_R_101_3x.yaml",
    ],
)
def test_one_config_fits_a_published_model_of_detectron2_names(config, tmp_path):
    contents = model_file(tmp_path / "model_final.pth", config)
    assert [candidate.name for candidate in find_candidates(contents)] == [config]
    assert chosen(contents) == config


@pytest.mark.parametrize("config", ["yolact_darknet53", "yolact_plus_base", "yolact_resnet50_pascal"])
def test_one_config_fits_a_published_yolact(config, tmp_path):
    contents = save(tmp_path / "model.pth", published(config))
    assert [candidate.name for candidate in find_candidates(contents)] == [f"YOLACT/{config}.yaml"]


def test_configs_that_differ_in_training_alone_are_one(tmp_path):
    contents = model_file(tmp_path / "model.pth", "SOLOv2/solov2_R_50_3x.yaml")
    names = [candidate.name for candidate in find_candidates(contents)]
    assert names == ["SOLOv2/solov2_R_50_1x.yaml", "SOLOv2/solov2_R_50_3x.yaml"]
    assert chosen(contents) == "SOLOv2/solov2_R_50_1x.yaml"


@pytest.mark.parametrize(
    ("file", "config"),
    [
        ("yolact_im700_54_800000.pth", "YOLACT/yolact_im700.yaml"),
        ("yolact_base_54_800000.pth", "YOLACT/yolact_base.yaml"),
        ("yolact_im400_3_interrupt.pth", "YOLACT/yolact_im400.yaml"),
        ("weights.pth", None),
    ],
)
def test_the_name_of_the_file_decides_between_shapes_that_are_the_same(file, config, tmp_path):
    contents = save(tmp_path / file, published("yolact_base"))
    candidates = find_candidates(contents)
    assert {candidate.name for candidate in candidates} == {
        f"YOLACT/yolact_{x}.yaml" for x in ("base", "im400", "im700")
    }
    assert config in (None, candidates[0].name)
    assert chosen(contents) == config


def test_another_number_of_classes_is_an_option(tmp_path):
    contents = model_file(
        tmp_path / "x.pth", "CenterMask/centermask_R_50_FPN_ms_3x.yaml", "MODEL.ROI_HEADS.NUM_CLASSES", 5
    )
    (candidate,) = find_candidates(contents)
    assert candidate.options == {"MODEL.ROI_HEADS.NUM_CLASSES": 5}
    assert candidate.cfg.MODEL.ROI_HEADS.NUM_CLASSES == 5


def test_a_bare_backbone_has_the_configs_that_can_start_from_it(tmp_path):
    contents = save(tmp_path / "x.pth", backbones.vovnet("V-99-eSE"))
    candidates = find_candidates(contents)
    assert {candidate.name for candidate in candidates} == {
        f"CenterMask/{name}.yaml"
        for name in (
            "centermask_V_99_eSE_FPN_ms_3x",
            "centermask_V_99_eSE_dcn_FPN_ms_3x",
            "panoptic_centermask_V_99_eSE_FPN_ms_3x",
        )
    }
    assert not any(candidate.options for candidate in candidates)
    contents = save(tmp_path / "y.pth", backbones.timm_vovnet("V-99-eSE"))
    assert len(find_candidates(contents)) == 3
    assert all(candidate.options["INPUT.FORMAT"] == "RGB" for candidate in find_candidates(contents))


def test_no_config_fits(tmp_path):
    contents = save(tmp_path / "x.pth", {**published("yolact_resnet50"), "proto_net.10.weight": (64, 256, 1, 1)})
    assert find_candidates(contents) == []
    assert chosen(contents) is None
