"""The published R50 model of the recorded case, loaded from a checkpoint file as a user would load it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model

from centermask_solo import add_centermask_solo_config
from centermask_solo.checkpoint import Checkpointer
from tests import parity

ROOT = Path(__file__).parents[3]
CASE = ROOT / "tests" / "goldens" / "solov2_R50_3x.json"
RENAMED = {"SCORE_THR": "SCORE_THRESH_TEST", "UPDATE_THR": "NMS.SCORE_THRESH"}  # options of the recorded case


@pytest.fixture(scope="session")
def r50_case(tmp_path_factory):
    """``model`` (on the CPU, in evaluation mode), ``case`` (its json) and ``arrays`` (the reference's figures)."""
    case = json.loads(CASE.read_text())
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.merge_from_file(str(ROOT / "configs" / "SOLOv2" / "solov2_R_50_3x.yaml"))
    cfg.MODEL.DEVICE = "cpu"
    for key, value in case["settings"].items():
        key = key.removeprefix("MODEL.SOLOV2.")
        if key == "MAX_PER_IMG":
            cfg.TEST.DETECTIONS_PER_IMAGE = value
        elif key.startswith("MODEL."):
            cfg.merge_from_list([key, value])
        else:
            cfg.merge_from_list([f"MODEL.SOLOV2.{RENAMED.get(key, key)}", value])
    weights = tmp_path_factory.mktemp("solov2") / "r50.pth"
    torch.save({"model": {k: torch.from_numpy(v) for k, v in parity.checkpoint(CASE).items()}}, weights)
    cfg.MODEL.WEIGHTS = str(weights)
    model = build_model(cfg).eval()
    Checkpointer(model, complete=True).load(cfg.MODEL.WEIGHTS)
    with np.load(CASE.with_suffix(".npz")) as arrays:
        return SimpleNamespace(model=model, cfg=cfg, case=case, arrays=dict(arrays))
