"""Files of AdelaiDet, CenterMask2 and earlier versions become files of this package that merge and build."""

import pytest
import torch
import yaml
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model

from centermask_solo import add_centermask_solo_config
from centermask_solo.cli import main
from centermask_solo.config import merge_config
from centermask_solo.config.conversion import convert_file, convert_options
from centermask_solo.config.old_names import OLD_NAMES
from centermask_solo.config.trees import flatten, nest
from centermask_solo.utils.errors import ConfigError

ADELAIDET_BASE = """
MODEL:
  META_ARCHITECTURE: "SOLOv2"
  MASK_ON: True
  BACKBONE: {NAME: "build_resnet_fpn_backbone"}
  RESNETS: {OUT_FEATURES: ["res2", "res3", "res4", "res5"]}
  FPN: {IN_FEATURES: ["res2", "res3", "res4", "res5"]}
  SOLOV2:
    FPN_SCALE_RANGES: ((1, 56), (28, 112), (56, 224), (112, 448), (224, 896))
    NUM_KERNELS: 128
    NUM_MASKS: 128
    MASK_IN_CHANNELS: 256
    USE_COORD_CONV: True
    USE_DCN_IN_INSTANCE: False
    TYPE_DCN: "DCN"
    LOSS: {FOCAL_USE_SIGMOID: True, FOCAL_WEIGHT: 1, DICE_WEIGHT: 2.5}
    SCORE_THR: 0.2
    MASK_THR: 0.4
    MAX_PER_IMG: 50
    NMS_TYPE: "mask"
    NMS_SIGMA: 3
INPUT: {MASK_FORMAT: "bitmask"}
VERSION: 2
"""
ADELAIDET = '_BASE_: "Base-SOLOv2.yaml"\nMODEL:\n  SOLOV2:\n    NMS_PRE: 300\n    NUM_CLASSES: 3\n'
CENTERMASK2 = """
MODEL:
  META_ARCHITECTURE: "GeneralizedRCNN"
  WEIGHTS: "https://www.dropbox.com/s/rptgw6stppbiw1u/vovnet19_ese_detectron2.pth?dl=1"
  MASK_ON: True
  MASKIOU_ON: True
  MASKIOU_LOSS_WEIGHT: 2
  MOBILENET: False
  BACKBONE: {NAME: "build_fcos_vovnet_fpn_backbone", FREEZE_AT: 0}
  VOVNET:
    CONV_BODY: "V-19-eSE"
    OUT_FEATURES: ["stage3", "stage4", "stage5"]
    STAGE_WITH_DCN: (False, True, True, True)
    WITH_MODULATED_DCN: True
    OUT_CHANNELS: 256
  FPN: {IN_FEATURES: ["stage3", "stage4", "stage5"], OUT_CHANNELS: 128}
  PROPOSAL_GENERATOR: {NAME: "FCOS"}
  FCOS:
    NUM_CLASSES: 3
    FPN_STRIDES: [8, 16, 32, 64, 128]
    NUM_CLS_CONVS: 2
    NUM_BOX_CONVS: 2
    INFERENCE_TH_TEST: 0.1
    THRESH_WITH_CTR: True
    NMS_TH: 0.5
  ROI_HEADS: {NAME: "CenterROIHeads", NUM_CLASSES: 3, IN_FEATURES: ["p3", "p4", "p5"]}
  ROI_MASK_HEAD:
    NAME: "SpatialAttentionMaskHead"
    ASSIGN_CRITERION: "area"
    NUM_CONV: 2
    CONV_DIM: 128
    POOLER_RESOLUTION: 14
  ROI_MASKIOU_HEAD: {NUM_CONV: 2, CONV_DIM: 128}
"""


def load(path) -> CfgNode:
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    merge_config(cfg, str(path), [])
    return cfg


def build(cfg: CfgNode) -> torch.nn.Module:
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        return build_model(cfg)


def convert(folder, text: str, **options):
    (folder / "old.yaml").write_text(text)
    return convert_file(str(folder / "old.yaml"), str(folder / "new.yaml"), **options)


def test_a_file_of_adelaidet(tmp_path):
    (tmp_path / "Base-SOLOv2.yaml").write_text(ADELAIDET_BASE)
    changes = convert(tmp_path, ADELAIDET).changes
    cfg = load(tmp_path / "new.yaml")
    node = cfg.MODEL.SOLOV2
    assert (node.NUM_CLASSES, node.NUM_MASKS, node.PRE_NMS_TOPK_TEST) == (3, 128, 300)
    assert (node.SCORE_THRESH_TEST, node.MASK_THRESH_TEST, cfg.TEST.DETECTIONS_PER_IMAGE) == (0.2, 0.4, 50)
    assert (node.NMS.NAME, node.NMS.SIGMA, node.NMS.IOU_THRESH) == ("MaskNMS", 3.0, 0.4)
    assert (node.LOSS.CLASS_WEIGHT, node.LOSS.MASK_WEIGHT) == (1.0, 2.5)
    assert (node.DEFORM_IN_INSTANCE, node.DEFORM_MODULATED) == ("none", False)
    assert node.SCALE_RANGES == ((1, 56), (28, 112), (56, 224), (112, 448), (224, 896))
    assert type(build(cfg)).__name__ == "SOLOv2"
    assert "MODEL.SOLOV2.SCORE_THR 0.2 -> MODEL.SOLOV2.SCORE_THRESH_TEST 0.2" in changes
    assert "dropped MODEL.SOLOV2.USE_COORD_CONV True: coordinates are always appended" in changes


def test_a_file_of_centermask2(tmp_path):
    changes = convert(tmp_path, CENTERMASK2).changes
    cfg = load(tmp_path / "new.yaml")
    assert cfg.MODEL.META_ARCHITECTURE == "CenterMask"
    assert cfg.MODEL.WEIGHTS == "https://dl.dropbox.com/s/rptgw6stppbiw1u/vovnet19_ese_detectron2.pth"
    node = cfg.MODEL.FCOS
    assert (node.NUM_CLASS_CONVS, node.SCORE_THRESH_TEST, node.NMS.IOU_THRESH) == (2, 0.1, 0.5)
    assert node.THRESH_WITH_CENTERNESS is True
    node = cfg.MODEL.CENTERMASK
    assert (node.MASK_IOU.ENABLED, node.MASK_IOU.NUM_CONVS, node.LOSS.MASK_IOU_WEIGHT) == (True, 2, 2.0)
    assert cfg.MODEL.ROI_MASK_HEAD.LEVEL_ASSIGNMENT == "area"
    assert cfg.MODEL.VOVNET.DEFORM_ON_PER_STAGE == [False, True, True, True] and cfg.MODEL.VOVNET.DEFORM_MODULATED
    model = build(cfg)
    assert type(model).__name__ == "CenterMask" and model.roi_heads.maskiou_head is not None
    assert sum(change.startswith("dropped") for change in changes) == 3


def test_every_old_name_converts(tmp_path):
    """Each alone, with a value of the new option's type, or one of the old values."""
    defaults = flatten(load(""))
    for key, old in OLD_NAMES.items():
        if key == "MODEL.ROI_MASKIOU_HEAD":  # a group, whose options follow
            continue
        value = {"NMS_TYPE": "matrix", "USE_DCN_IN_INSTANCE": True, "TYPE_DCN": "DCNv2"}.get(key.split(".")[-1])
        if value is None:
            value = defaults[old.new] if old.new else 1
        done = convert_options(nest({key: value}))
        assert list(done.options) == ([old.new] if old.new else []) and len(done.changes) == 1 and not done.unknown
        cfg = load("")
        cfg.merge_from_other_cfg(CfgNode(nest(done.options)))


def test_a_file_without_old_names_stays_the_same(tmp_path):
    text = "MODEL:\n  YOLACT:\n    NUM_CLASSES: 3\nSOLVER:\n  STEPS: (1, 2)\n"
    done = convert(tmp_path, text)
    assert done.changes == [] and (tmp_path / "new.yaml").read_text() == "# Converted from old.yaml.\n" + text


def test_unknown_options_are_listed_and_dropped_on_request(tmp_path):
    text = "MODEL:\n  BASIS_MODULE:\n    NAME: x\n  MASK_ON: True\nX: 1\n"
    with pytest.raises(ConfigError, match=r"unknown options: MODEL\.BASIS_MODULE\.NAME, X; --drop-unknown") as error:
        convert(tmp_path, text)
    assert "\n" not in str(error.value) and not (tmp_path / "new.yaml").exists()
    assert convert(tmp_path, text, drop_unknown=True).unknown == ["MODEL.BASIS_MODULE.NAME", "X"]
    assert yaml.safe_load((tmp_path / "new.yaml").read_text()) == {"MODEL": {"MASK_ON": True}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("MODEL:\n  SOLOV2: {NUM_KERNELS: 64, NUM_MASKS: 128}\n", r"NUM_MASKS would be both 64 and 128"),
        ("MODEL:\n  SOLOV2: {SCORE_THR: low}\n", r"the config key MODEL\.SOLOV2\.SCORE_THRESH_TEST expects float"),
        ("MODEL:\n  SOLOV2: {NUM_CLASSES: !!python/object/apply:os.getpid []}\n", "is not a config file"),
        ("MODEL: [", "is not a config file"),
    ],
)
def test_faults_are_one_line_messages(text, message, tmp_path):
    with pytest.raises(ConfigError, match=message) as error:
        convert(tmp_path, text)
    assert "\n" not in str(error.value) and not (tmp_path / "new.yaml").exists()


def test_the_command_prints_what_it_changed_and_overwrites_on_request_only(tmp_path, capsys):
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text("MODEL:\n  YOLACT: {NMS_PRE: 50}\n  X: 1\n")
    with pytest.raises(SystemExit) as end:
        main(["config", "convert", str(old), str(new)])
    assert end.value.code == 2 and "unknown options: MODEL.X" in capsys.readouterr().err
    main(["config", "convert", str(old), str(new), "--drop-unknown"])
    assert capsys.readouterr().out.splitlines() == [
        "MODEL.YOLACT.NMS_PRE 50 -> MODEL.YOLACT.PRE_NMS_TOPK_TEST 50",
        "dropped MODEL.X: unknown option",
        f"{new}: 1 option, 1 change",
    ]
    before = new.read_text()
    old.write_text("MODEL:\n  YOLACT: {NMS_PRE: 60}\n")
    with pytest.raises(SystemExit) as end:
        main(["config", "convert", str(old), str(new)])
    assert end.value.code == 2 and "new.yaml exists" in capsys.readouterr().err and new.read_text() == before
    main(["config", "convert", str(old), str(new), "--overwrite"])
    assert load(new).MODEL.YOLACT.PRE_NMS_TOPK_TEST == 60
    with pytest.raises(SystemExit) as end:
        main(["config", "convert", str(tmp_path / "gone.yaml"), str(new), "--overwrite"])
    assert end.value.code == 2 and "there is no config file" in capsys.readouterr().err
