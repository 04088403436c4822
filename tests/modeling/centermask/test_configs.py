"""The configs are the published recipes. ``tests/test_configs.py`` checks that the models build."""

import pytest

from tests.modeling.centermask.helpers import CONFIGS, read_config

NAMES = sorted(path.stem for path in CONFIGS.glob("*.yaml") if not path.stem.startswith(("Base", "lvis")))


@pytest.mark.parametrize("name", NAMES)
def test_the_recipe_is_the_published_one(name):
    cfg = read_config(name)
    lite, x101 = "lite" in name, "X_101" in name
    steps = (300000, 340000, 360000) if lite else (210000, 250000, 270000)
    test_size = (600, 1000) if lite else (800, 1333)
    pixel_std = [57.375, 57.120, 58.395] if x101 else [1.0, 1.0, 1.0]
    frozen_stages = 2 if "101" in name or "R_50" in name else 0
    assert cfg.MODEL.FCOS.POST_NMS_TOPK_TEST == 50 and cfg.MODEL.FCOS.NMS.IOU_THRESH == 0.6
    assert (cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR) == (16, 0.01)
    assert (*cfg.SOLVER.STEPS, cfg.SOLVER.MAX_ITER) == steps
    assert test_size == (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
    assert (
        cfg.MODEL.MASK_ON
        and cfg.MODEL.CENTERMASK.MASK_IOU.ENABLED
        and cfg.MODEL.ROI_MASK_HEAD.LEVEL_ASSIGNMENT == "ratio"
    )
    assert pixel_std == cfg.MODEL.PIXEL_STD
    assert cfg.MODEL.PIXEL_MEAN == [103.530, 116.280, 123.675] and cfg.INPUT.FORMAT == "BGR"
    assert frozen_stages == cfg.MODEL.BACKBONE.FREEZE_AT
    assert "?" not in cfg.MODEL.WEIGHTS  # Detectron2 refuses addresses with a query
    assert cfg.DATASETS.TRAIN[0].startswith("coco_2017_train")
    assert cfg.DATASETS.TEST[0].endswith("panoptic_separated") == name.startswith("panoptic")
