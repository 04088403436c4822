"""The published R50 model of the recorded case, loaded from a checkpoint file as a user would load it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from centermask_solo.checkpoint import Checkpointer
from tests import parity
from tests.modeling.yolact.tiny import yolact_cfg

CASE = Path(__file__).parents[2] / "goldens" / "yolact_resnet50.json"


@pytest.fixture(scope="session")
def r50_case(tmp_path_factory):
    """``model`` (on the CPU, in evaluation mode), ``case`` (its json) and ``arrays`` (the reference's figures)."""
    case = json.loads(CASE.read_text())
    settings = case["settings"]
    weights = tmp_path_factory.mktemp("yolact") / "yolact_resnet50_54_800000.pth"
    torch.save({k: torch.from_numpy(v) for k, v in parity.checkpoint(CASE).items()}, weights)  # flat, as published
    cfg = yolact_cfg("MODEL.YOLACT.SQUARE_ANCHORS", True, "MODEL.YOLACT.SCORE_THRESH_TEST", settings["conf_thresh"])
    node = cfg.MODEL.YOLACT
    assert settings["anchor_sizes"] == cfg.MODEL.ANCHOR_GENERATOR.SIZES
    assert [1 / x for x in cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS[0]] == settings["anchor_aspect_ratios_w_over_h"]
    assert [settings["num_classes"], settings["input_size"][0]] == [node.NUM_CLASSES, node.INPUT_SIZE]
    assert [settings["nms_top_k"], settings["nms_thresh"]] == [node.NMS.TOPK, node.NMS.IOU_THRESH]
    assert settings["max_num_detections"] == cfg.TEST.DETECTIONS_PER_IMAGE
    model = build_model(cfg).eval()
    Checkpointer(model, complete=True).load(str(weights))
    with np.load(CASE.with_suffix(".npz")) as arrays:
        return SimpleNamespace(model=model, cfg=cfg, case=case, arrays=dict(arrays))
