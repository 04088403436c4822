"""``centermask-solo weights``: inspect, convert, and predict with what was written."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

from centermask_solo import model_zoo
from centermask_solo.cli import main
from centermask_solo.model_zoo import Model, models
from tests.checkpoint.sources.backbones import tensors, torchvision_shapes
from tests.cli.test_cli import fails
from tests.training.tiny import write_dataset

SMALL = "shapes/solov2_shapes.yaml"
CLASSES = list("abcdefghij")


@pytest.fixture
def theirs(tmp_path):
    """A small SOLOv2 that knows nothing but finds something, in AdelaiDet's names."""
    torch.manual_seed(1)
    state = build_model(model_zoo.get_config(SMALL)).state_dict()
    state["ins_head.cate_pred.bias"] += 4
    torch.save({"model": state}, tmp_path / "theirs.pth")
    return str(tmp_path / "theirs.pth")


def test_inspect(tmp_path, capsys):
    torch.save(tensors(torchvision_shapes("resnet34")), tmp_path / "resnet34.pth")
    argv = ["weights", "inspect", str(tmp_path / "resnet34.pth")]
    main(argv)
    lines = capsys.readouterr().out.splitlines()
    assert "backbone  ResNet-34" in lines and "config    SOLOv2/solov2_R_34_light448_3x.yaml" in lines
    main([*argv, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["source"] == lines[1].removeprefix("source    ")
    assert [config["name"] for config in found["configs"]] == ["SOLOv2/solov2_R_34_light448_3x.yaml"]


def test_inspect_merges_no_config_and_builds_no_model(tmp_path):
    """Which is what made it slow."""
    torch.save(tensors(torchvision_shapes("resnet34")), tmp_path / "resnet34.pth")
    program = """
import sys
from centermask_solo.cli import main
main(["weights", "inspect", sys.argv[1]])
assert not {"detectron2.config", "detectron2.modeling", "torchvision", "matplotlib"} & set(sys.modules)
"""
    command = [sys.executable, "-W", "ignore", "-c", program, str(tmp_path / "resnet34.pth")]
    result = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "backbone  ResNet-34" in result.stdout


def test_inspect_by_the_name_of_a_published_model(theirs, tmp_path, capsys, monkeypatch):
    release = model_zoo.find_model("SOLOv2/solov2_R_50_3x.yaml").release
    monkeypatch.setattr(models, "_all_models", lambda: (Model(SMALL, "MobileNetV2", "", release, file="theirs.pth"),))
    monkeypatch.setenv("CENTERMASK_SOLO_WEIGHTS", str(tmp_path))
    main(["weights", "inspect", f"centermask_solo://{SMALL}"])
    assert f"config    {SMALL}, with the images above" in capsys.readouterr().out


def test_converted_weights_predict_without_a_config(theirs, tmp_path, capsys):
    write_dataset(tmp_path / "data", num_images=1)
    (tmp_path / "names.txt").write_text("\n".join(CLASSES))
    target, names = str(tmp_path / "ours.pth"), str(tmp_path / "names.txt")
    main(["weights", "convert", theirs, target, "--config-file", SMALL, "--classes", names])
    out = capsys.readouterr().out
    assert out.startswith(f"{target}: ") and "10 classes from 'a' to 'j'; config: shapes/" in out
    predict = ["predict", "--weights", target, "--input", str(tmp_path / "data"), "--output", str(tmp_path / "found")]
    main([*predict, "--score-threshold", "0", "--no-pictures", "MODEL.DEVICE", "cpu"])
    written = json.loads(Path(tmp_path, "found", "predictions.json").read_text())
    assert [x["name"] for x in written["categories"]] == CLASSES
    assert written["annotations"]


def test_errors(theirs, tmp_path, capsys):
    code, text = fails(capsys, "weights", "inspect", str(tmp_path / "absent.pth"))
    assert code == 2 and text.startswith("error: ") and "absent.pth" in text
    code, text = fails(capsys, "weights", "convert", theirs, theirs)
    assert (
        code == 2 and text == f"error: {theirs} is an input, which would be lost: choose another name for the output\n"
    )
    code, text = fails(capsys, "weights", "convert", theirs, str(tmp_path / "x.pth"), "--classes", "a", "b", "a")
    assert (code, text) == (2, "error: the class name 'a' occurs twice: give every class its own name\n")
    code, text = fails(capsys, "weights")
    assert code == 2 and "ACTION" in text
