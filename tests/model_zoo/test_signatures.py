"""``signatures.json`` is what the configs give, and inspecting a file needs nothing but it."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

import centermask_solo
from centermask_solo.config import config_names
from centermask_solo.model_zoo.signatures import COMMAND, load_signatures, make_signature, signatures_text
from tests.checkpoint.sources import detectors
from tests.checkpoint.sources.backbones import tensors

FILE = Path(centermask_solo.__file__).parent / "model_zoo" / "signatures.json"
SAMPLE = (  # of every system
    "SOLOv2/solov2_R_50_light512_dcn_3x.yaml",
    "SOLOv2/panoptic_solov2_R_50_3x.yaml",
    "SOLOv2/lvis_solov2_R_50_3x.yaml",
    "SOLO/decoupled_solo_R_50_light512_dcn_3x.yaml",
    "CenterMask/centermask_lite_V_19_slim_dw_eSE_FPN_ms_4x.yaml",
    "CenterMask/panoptic_centermask_R_50_FPN_ms_3x.yaml",
    "FCOS/fcos_R_50_FPN_1x.yaml",
    "YOLACT/yolact_plus_resnet50.yaml",
    "baselines/mask_rcnn_R_50_FPN_1x.yaml",
    "baselines/rcnn_R_50_1x.yaml",
    "baselines/retinanet_R_50_FPN_1x.yaml",
)


def test_every_config_has_one():
    assert [x.config for x in load_signatures()] == [name for name in config_names() if "Base" not in name]
    rows = json.loads(FILE.read_text(encoding="utf-8"))
    assert rows == json.loads(json.dumps([asdict(signature) for signature in load_signatures()]))


@pytest.mark.parametrize("name", SAMPLE)
def test_they_are_fresh(name):
    (stored,) = [signature for signature in load_signatures() if signature.config == name]
    assert make_signature(name) == stored, f"signatures.json is stale: {COMMAND}"


def test_the_sample_has_every_system():
    systems = {signature.config: signature.system for signature in load_signatures()}
    assert {systems[name] for name in SAMPLE} == set(systems.values())


@pytest.mark.slow
def test_all_are_fresh():
    pytest.importorskip("timm")
    assert signatures_text() == FILE.read_text(encoding="utf-8"), f"signatures.json is stale: {COMMAND}"


def test_rows_of_the_classes_are_told_apart():
    rows = {signature.config: signature.class_rows for signature in load_signatures()}
    assert rows["SOLOv2/solov2_R_50_3x.yaml"]["ins_head.cate_pred.weight"] == (1, 0)
    yolact = rows["YOLACT/yolact_base.yaml"]
    assert (yolact["head.class_logits.bias"], yolact["sem_seg_head.predictor.bias"]) == ((3, 3), (1, 0))
    baseline = rows["baselines/mask_rcnn_R_50_FPN_1x.yaml"]
    assert baseline["roi_heads.box_predictor.bbox_pred.weight"] == (4, 0)
    assert baseline["roi_heads.box_predictor.cls_score.weight"] == (1, 1)


PROGRAM = """
import sys
from types import ModuleType

package = ModuleType("centermask_solo")  # whatever the package itself imports
package.__path__ = [sys.argv[1]]
sys.modules["centermask_solo"] = package
from centermask_solo.model_zoo.inspection import inspect_weights

assert inspect_weights(sys.argv[2])["config"] == "CenterMask/centermask_V_39_eSE_FPN_ms_3x.yaml"
slow = ("torchvision", "detectron2.modeling", "detectron2.config", "detectron2.checkpoint")
loaded = [name for name in slow if name in sys.modules]
assert not loaded, loaded
"""


def test_inspecting_imports_and_builds_no_model(tmp_path):
    """It takes as long as importing PyTorch."""
    path = tmp_path / "x.pth"
    torch.save(tensors(detectors.centermask(detectors.CenterMask("V-39-eSE"))), path)
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(FILE.parents[1]), str(path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
