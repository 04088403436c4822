"""SSD's augmentation, built from a config."""

import pytest
from detectron2.config import get_cfg

from centermask_solo import add_centermask_solo_config
from centermask_solo.data.transforms.geometric import RandomMirror, ResizeTo
from centermask_solo.data.transforms.photometric import PhotometricDistortion
from centermask_solo.data.transforms.ssd import FILL_RGB, build_ssd_augmentations
from centermask_solo.utils.errors import ConfigError


def ssd_cfg(*overrides):
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.INPUT.AUGMENTATION, cfg.INPUT.FORMAT = "ssd", "RGB"
    cfg.merge_from_list(list(overrides))
    return cfg


def test_built_from_a_config():
    colors, one = build_ssd_augmentations(ssd_cfg("INPUT.FORMAT", "BGR"), (96, 64))
    assert isinstance(colors, PhotometricDistortion) and colors.image_format == "BGR"
    expand, crop, mirror, resize = one.augmentations
    assert (expand.max_ratio, expand.fill) == (4.0, FILL_RGB[::-1])
    assert (crop.min_size, resize.size) == (0.3, (96, 64)) and isinstance(mirror, RandomMirror)
    off = ("INPUT.SSD.PHOTOMETRIC", False, "INPUT.SSD.MAX_EXPAND", 1.0, "INPUT.SSD.MIN_CROP", 1.0)
    (one,) = build_ssd_augmentations(ssd_cfg(*off, "INPUT.RANDOM_FLIP", "none"), (64, 64))
    assert [type(x) for x in one.augmentations] == [ResizeTo]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("INPUT.CROP.ENABLED", True), "set INPUT.CROP.ENABLED False"),
        (("INPUT.RANDOM_FLIP", "vertical"), "INPUT.RANDOM_FLIP is 'vertical', but .* set it to horizontal or none"),
        (("INPUT.SSD.MAX_EXPAND", 0.5), "MAX_EXPAND must be at least 1"),
        (("INPUT.SSD.MIN_CROP", 0.0), "MIN_CROP above 0"),
        (("INPUT.FORMAT", "L"), "needs images in RGB or BGR, not INPUT.FORMAT 'L'"),
    ],
)
def test_contradictory_options_are_errors(overrides, message):
    with pytest.raises(ConfigError, match=message):
        build_ssd_augmentations(ssd_cfg(*overrides), (64, 64))
