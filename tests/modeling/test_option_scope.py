"""An option that a model does not read is refused when it is changed, with the one that it reads."""

import pytest
from detectron2.config import get_cfg
from detectron2.engine import DefaultPredictor

from centermask_solo.config import config_names, default_config, merge_config
from centermask_solo.config.trees import flatten
from centermask_solo.inference.predictor import Predictor
from centermask_solo.modeling import option_scope
from centermask_solo.modeling.option_scope import check_options_are_read, max_detections
from centermask_solo.utils.errors import ConfigError
from tests.modeling.models import SYSTEMS

CONFIGS = {
    "SOLOv2": "SOLOv2/solov2_R_50_3x.yaml",
    "PanopticSOLOv2": "SOLOv2/panoptic_solov2_R_50_3x.yaml",
    "SOLO": "SOLO/solo_R_50_3x.yaml",
    "CenterMask": "CenterMask/centermask_V_39_eSE_FPN_ms_3x.yaml",
    "FCOS": "FCOS/fcos_R_50_FPN_1x.yaml",
    "YOLACT": "YOLACT/yolact_base.yaml",
    "PanopticFPN": "CenterMask/panoptic_centermask_R_50_FPN_ms_3x.yaml",
    "GeneralizedRCNN": "baselines/mask_rcnn_R_50_FPN_1x.yaml",
    "RetinaNet": "baselines/retinanet_R_50_FPN_1x.yaml",
}
ROI_SCORE, RETINANET_SCORE = "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "MODEL.RETINANET.SCORE_THRESH_TEST"
ROI_NMS, DETECTIONS = "MODEL.ROI_HEADS.NMS_THRESH_TEST", "TEST.DETECTIONS_PER_IMAGE"
# For each system, options that tutorials set and what it reads instead; "" where it reads the option itself
INSTEAD = {
    "SOLOv2": {ROI_SCORE: "MODEL.SOLOV2.SCORE_THRESH_TEST", ROI_NMS: "MODEL.SOLOV2.NMS", DETECTIONS: ""},
    "PanopticSOLOv2": {ROI_SCORE: "MODEL.SOLOV2.SCORE_THRESH_TEST", ROI_NMS: "MODEL.SOLOV2.NMS", DETECTIONS: ""},
    "SOLO": {ROI_SCORE: "MODEL.SOLO.SCORE_THRESH_TEST", ROI_NMS: "MODEL.SOLO.NMS", DETECTIONS: ""},
    "YOLACT": {ROI_SCORE: "MODEL.YOLACT.SCORE_THRESH_TEST", ROI_NMS: "MODEL.YOLACT.NMS.IOU_THRESH", DETECTIONS: ""},
    "RetinaNet": {ROI_SCORE: RETINANET_SCORE, ROI_NMS: "MODEL.RETINANET.NMS_THRESH_TEST", DETECTIONS: ""},
    "GeneralizedRCNN": {RETINANET_SCORE: ROI_SCORE, ROI_SCORE: "", ROI_NMS: "", DETECTIONS: ""},
}
INSTEAD |= {
    name: {
        ROI_SCORE: "MODEL.FCOS.SCORE_THRESH_TEST",
        ROI_NMS: "MODEL.FCOS.NMS.IOU_THRESH",
        DETECTIONS: "MODEL.FCOS.POST_NMS_TOPK_TEST",
    }
    for name in ("CenterMask", "FCOS", "PanopticFPN")
}


def config(name, *opts):
    cfg = default_config()
    merge_config(cfg, name, [str(x) for x in opts])
    return cfg


def other(value):
    """Another value of the same type, of any option that is not in a config file."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    return f"{value}x" if isinstance(value, str) else [*value, *value, 3]


@pytest.mark.parametrize("name", [x for x in config_names() if "Base" not in x])
def test_configs_of_the_package_set_only_what_they_read(name):
    check_options_are_read(config(name), default_config())


@pytest.mark.parametrize("name", CONFIGS)
def test_what_tutorials_set_has_an_effect_or_is_refused_with_the_right_name(name):
    for key, instead in {RETINANET_SCORE: INSTEAD[name].get(ROI_SCORE), **INSTEAD[name]}.items():
        if key == instead:
            continue
        cfg = config(CONFIGS[name], key, 10 if key == DETECTIONS else 0.7)
        if not instead:
            check_options_are_read(cfg, default_config())
            continue
        with pytest.raises(ConfigError) as error:
            check_options_are_read(cfg, default_config())
        assert f"{key} is " in str(error.value) and f"{name} does not read this option: set {instead} and" in str(
            error.value
        )


@pytest.mark.parametrize("name", CONFIGS)
def test_every_option_of_another_detector_is_refused_when_it_is_changed(name):
    """All options of systems, one by one; a system's own are accepted."""
    plain, defaults = config(CONFIGS[name]), default_config()
    own = (plain.MODEL.META_ARCHITECTURE.upper().removeprefix("PANOPTIC"), "VERSION")
    refused = set()
    for key, value in flatten(defaults).items():
        if not option_scope._is_in(key, option_scope.scoped_options()) or (key.endswith(".NAME") and "NMS" not in key):
            continue
        cfg = plain.clone()
        *groups, last = key.split(".")
        node = cfg
        for group in groups:
            node = node[group]
        node[last] = other(value)
        try:
            check_options_are_read(cfg, defaults)
        except ConfigError:
            refused.add(key)
    assert not any(key.split(".")[1] == own[0] for key in refused)
    foreign = (
        {"SOLO", "SOLOV2", "YOLACT", "RETINANET", "RPN"} - {own[0]} - ({"RPN"} if name == "GeneralizedRCNN" else set())
    )
    keys = [key for key in flatten(defaults) if key.split(".")[1:2] and key.split(".")[1] in foreign]
    missed = [key for key in keys if key not in refused and not key.endswith(".NAME")]
    assert keys and missed == []


@pytest.mark.parametrize("name", ["SOLOv2", "CenterMask", "FCOS", "YOLACT"])
def test_detectron2s_predictor_refuses_it_too(name):
    cfg = SYSTEMS[name].cfg("MODEL.WEIGHTS", "absent.pth")
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.7
    for predictor in (DefaultPredictor, Predictor):
        with pytest.raises(
            ConfigError, match=r"ROI_HEADS\.SCORE_THRESH_TEST is 0\.7, but .* set MODEL\.\w+\.SCORE_THRESH"
        ):
            predictor(cfg)


def test_the_same_number_may_be_said_twice():
    for number, fits in ((80, True), (5, False)):
        cfg = config(CONFIGS["SOLOv2"], "MODEL.ROI_HEADS.NUM_CLASSES", number, "MODEL.SOLOV2.NUM_CLASSES", 80)
        if fits:
            check_options_are_read(cfg)
        else:
            with pytest.raises(ConfigError, match=r"set MODEL\.SOLOV2\.NUM_CLASSES and leave the former at 80"):
                check_options_are_read(cfg)
    check_options_are_read(config(CONFIGS["CenterMask"], ROI_NMS, 0.6, "MODEL.FCOS.NMS.IOU_THRESH", 0.6))
    check_options_are_read(config(CONFIGS["FCOS"], "MODEL.FCOS.NUM_CLASSES", 0, "MODEL.ROI_HEADS.NUM_CLASSES", 5))


def test_what_is_unknown_is_not_refused():
    """Models without a record, and parts of the user's own."""
    cfg = config("", "MODEL.META_ARCHITECTURE", "Mine", "MODEL.RETINANET.SCORE_THRESH_TEST", 0.7)
    check_options_are_read(cfg)
    cfg = config(CONFIGS["GeneralizedRCNN"], RETINANET_SCORE, 0.7)
    cfg.MODEL.ROI_HEADS.NAME = "HeadsOfMine"
    check_options_are_read(cfg)
    assert get_cfg().MODEL.RETINANET.SCORE_THRESH_TEST == 0.05


def test_limit_of_detections_is_that_of_the_system():
    assert max_detections(config(CONFIGS["SOLOv2"], DETECTIONS, 300)) == 300
    assert max_detections(config(CONFIGS["CenterMask"], "MODEL.FCOS.POST_NMS_TOPK_TEST", 300)) == 300
    assert max_detections(config(CONFIGS["PanopticFPN"], "MODEL.FCOS.POST_NMS_TOPK_TEST", 300)) == 300
    assert max_detections(config(CONFIGS["CenterMask"], "TEST.AUG.ENABLED", True, DETECTIONS, 200)) == 200
    assert max_detections(config("", "MODEL.META_ARCHITECTURE", "Mine", DETECTIONS, 7)) == 7
