"""Every option states what it allows, and any other value is one line that names the option."""

import math

import pytest
from detectron2.config import CfgNode, get_cfg

from centermask_solo import add_centermask_solo_config
from centermask_solo.config import merge_config
from centermask_solo.config.ranges import RULES, check_values, find_rule
from centermask_solo.config.trees import flatten, nest
from centermask_solo.utils.errors import ConfigError


def default_config() -> CfgNode:
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    return cfg


DEFAULTS = flatten(default_config())
OWN = sorted(set(DEFAULTS) - set(flatten(get_cfg())))
ODD_VALUES = [-1, 0, 0.5, 1e300, math.nan, math.inf, "", "x", [], [[]], [-1], [math.nan], [0, 0], ["a"], [{}], None]


@pytest.mark.parametrize("key", [key for key in OWN if not isinstance(DEFAULTS[key], bool)])
def test_every_own_option_has_a_rule(key):
    assert find_rule(key) is not None


@pytest.mark.parametrize("pattern", RULES)
def test_every_rule_decides_for_an_option(pattern):
    assert any(find_rule(key) is RULES[pattern] for key in DEFAULTS)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("SOLVER.IMS_PER_BATCH", 0, "must be an integer of at least 1, not 0"),
        ("SOLVER.IMS_PER_BATCH", -4, "must be an integer of at least 1, not -4"),
        ("SOLVER.BASE_LR", 0.0, "must be greater than 0, not 0.0"),
        ("SOLVER.BASE_LR", math.nan, "must be greater than 0, not nan"),
        ("SOLVER.MAX_ITER", 0, "must be an integer of at least 1, not 0"),
        ("SOLVER.CHECKPOINT_PERIOD", 0, "must be an integer of at least 1, not 0"),
        ("SOLVER.WEIGHT_DECAY", -0.1, "must be at least 0, or None, not -0.1"),
        ("SOLVER.STEPS", (40, 30), "must be a list, each entry an integer of at least 1, in ascending order"),
        ("SOLVER.LR_SCHEDULER_NAME", "Cosine", 'or "WarmupStepWithFixedGammaLR", not "Cosine"'),
        ("DATALOADER.NUM_WORKERS", -1, "must be an integer of at least 0, not -1"),
        ("INPUT.MIN_SIZE_TRAIN", (), "must be a list that is not empty, each entry an integer of at least 0"),
        ("INPUT.FORMAT", "HSV", 'must be "BGR", "RGB", "L" or "YUV-BT.601", not "HSV"'),
        ("INPUT.MASK_FORMAT", "rle", 'must be "polygon" or "bitmask", not "rle"'),
        ("INPUT.RANDOM_FLIP", "both", 'must be "none", "horizontal" or "vertical", not "both"'),
        ("MODEL.PIXEL_STD", [1.0, 0.0, 1.0], "must be a list that is not empty, each entry greater than 0"),
        ("MODEL.SOLOV2.SCALE_RANGES", ((96, 1),), "each entry a pair of numbers, the first one less than the second"),
        ("MODEL.SOLOV2.NMS.IOU_THRESH", 1.5, "must be from 0 to 1, not 1.5"),
        ("MODEL.FCOS.SCORE_THRESH_TEST", 1.0, "must be at least 0 and less than 1, not 1.0"),
        ("MODEL.YOLACT.MASKS_TO_TRAIN", 0, "must be an integer of at least 1, not 0"),
        ("MODEL.VOVNET.NORM", "GroupNorm", 'must be "FrozenBN", "BN", "SyncBN" or "GN", not "GroupNorm"'),
        ("MODEL.RETINANET.SMOOTH_L1_LOSS_BETA", math.inf, "must be finite, not inf"),
        ("TEST.DETECTIONS_PER_IMAGE", 0, "must be an integer of at least 1, not 0"),
    ],
    ids=str,
)
def test_a_value_out_of_range_is_named(key, value, message, tmp_path):
    path = tmp_path / "config.yaml"
    CfgNode(nest({key: value})).dump(stream=path.open("w"))
    with pytest.raises(ConfigError) as error:
        merge_config(default_config(), str(path), None)
    assert str(error.value).startswith(f"{key} must be ") and message in str(error.value)


@pytest.mark.parametrize("pattern", RULES)
def test_a_rule_decides_for_any_value(pattern):
    assert [value for value in ODD_VALUES if RULES[pattern].allows(value) not in (True, False)] == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_number_may_be_infinite_or_nan(value):
    numbers = [key for key, default in DEFAULTS.items() if isinstance(default, float)]
    assert len(numbers) > 50
    for key in numbers:
        cfg = CfgNode(nest({key: value}))
        with pytest.raises(ConfigError, match=key):
            check_values(cfg)


def test_numbers_in_nested_lists_are_checked():
    cfg = CfgNode(
        {"MODEL": CfgNode({"ROI_BOX_CASCADE_HEAD": CfgNode({"BBOX_REG_WEIGHTS": ((1.0, 2.0), (math.nan,))})})}
    )
    with pytest.raises(ConfigError, match=r"BBOX_REG_WEIGHTS must be finite"):
        check_values(cfg)
