"""From images to ranges, and to predictions in 8-bit integers, by the commands."""

import json

import cv2
import numpy as np
import pytest
import torch

from centermask_solo.cli import main
from tests.commands import refuses
from tests.modeling.models import SYSTEMS


@pytest.fixture
def folder(tmp_path):
    """A weight file of a small YOLACT, three images, and a json with one of their objects."""
    system = SYSTEMS["YOLACT"]
    cfg = system.cfg("MODEL.YOLACT.SCORE_THRESH_TEST", 0.01)
    names = [f"class {i}" for i in range(3)]
    torch.save(
        {"model": system.model().state_dict(), "config": cfg.dump(), "thing_classes": names}, tmp_path / "model.pth"
    )
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        cv2.imwrite(str(tmp_path / "images" / f"{i}.png"), rng.integers(0, 256, (64, 96, 3), np.uint8))
    box = [10, 10, 30, 30]
    polygon = [10, 10, 40, 10, 40, 40, 10, 40]
    data = {
        "images": [{"id": i, "file_name": f"{i}.png", "height": 64, "width": 96} for i in range(3)],
        "annotations": [
            {
                "id": 1,
                "image_id": 0,
                "category_id": 1,
                "bbox": box,
                "area": 900,
                "iscrowd": 0,
                "segmentation": [polygon],
            }
        ],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(names)],
    }
    (tmp_path / "data.json").write_text(json.dumps(data))
    return tmp_path


def command(folder, name, *options):
    return [name, "--weights", str(folder / "model.pth"), "--input", str(folder / "images"), "--output", *options]


def test_calibrate_then_predict(folder, capsys):
    ranges = str(folder / "int8.json")
    main(command(folder, "calibrate", ranges, "--count", "2", "MODEL.DEVICE", "cpu"))
    text = capsys.readouterr().out
    assert f"{ranges} written. Detections: " in text and "agree (mean IoU " in text
    found = json.loads((folder / "int8.json").read_text())["ranges"]
    assert "backbone.bottom_up.res2.0.conv2" in found and all(low <= 0 <= high for low, high, _ in found.values())
    int8 = ["--dtype", "int8", "MODEL.DEVICE", "cpu", "TEST.INT8_RANGES"]
    main(command(folder, "predict", str(folder / "out"), "--score-threshold", "0.01", *int8, ranges))
    assert "in 3 images" in capsys.readouterr().out
    assert "there is no absent.json" in refuses(
        capsys, command(folder, "predict", str(folder / "b"), *int8, "absent.json")
    )


def test_the_loss_of_ap_is_stated(folder, capsys):
    data = [["small", str(folder / "data.json"), str(folder / "images")]]
    options = ["--evaluate", "MODEL.DEVICE", "cpu", "DATASETS.COCO_JSON", str(data), "DATASETS.TEST", "('small',)"]
    main(command(folder, "calibrate", str(folder / "int8.json"), *options))
    text = capsys.readouterr().out
    assert "mask AP: " in text and " in float32, " in text and "box AP: " in text


def test_bad_input(folder, capsys):
    ranges = str(folder / "int8.json")
    text = refuses(capsys, command(folder, "calibrate", ranges, "MODEL.DEVICE", "cuda"))
    assert "int8 needs a CPU, but MODEL.DEVICE is 'cuda'" in text
    text = refuses(
        capsys, command(folder, "calibrate", ranges, "--evaluate", "MODEL.DEVICE", "cpu", "DATASETS.TEST", "()")
    )
    assert "--evaluate needs a dataset" in text
    data = json.loads((folder / "data.json").read_text())
    data["categories"][2]["name"] = "another"
    (folder / "data.json").write_text(json.dumps(data))
    registered = str([["others", str(folder / "data.json"), str(folder / "images")]])
    options = ["--evaluate", "MODEL.DEVICE", "cpu", "DATASETS.COCO_JSON", registered, "DATASETS.TEST"]
    text = refuses(capsys, command(folder, "calibrate", ranges, *options, "('others',)"))
    assert "the classes of the dataset 'others' are not those that the model was trained on" in text
    assert "'other' is not registered" in refuses(capsys, command(folder, "calibrate", ranges, *options, "('other',)"))
    assert not (folder / "int8.json").exists() and "calibrate:" not in text
    (folder / "int8.json").write_text("mine")
    assert "int8.json exists" in refuses(capsys, command(folder, "calibrate", ranges, "MODEL.DEVICE", "cpu"))
    assert (folder / "int8.json").read_text() == "mine"


def test_no_input_is_lost(folder, capsys):
    """Neither the weights, also with what may follow "?", nor the config."""
    config = folder / "model.yaml"
    config.write_text(SYSTEMS["YOLACT"].cfg().dump())
    cases = [("model.pth", "model.pth"), ("model.pth?ema=True", "model.pth"), ("model.pth", "model.yaml")]
    for weights, output in cases:
        argv = ["calibrate", "--weights", str(folder / weights), "--config-file", str(config), "--overwrite"]
        before = (folder / output).read_bytes()
        argv += ["--input", str(folder / "images"), "--output", str(folder / output), "MODEL.DEVICE", "cpu"]
        assert f"{output} is an input, which would be lost" in refuses(capsys, argv)
        assert (folder / output).read_bytes() == before


def test_detections_above_the_score_are_compared(folder, capsys):
    for score, expected in (("0", True), ("1", False)):
        options = ["--count", "1", "--overwrite", "--score-threshold", score, "MODEL.DEVICE", "cpu"]
        main(command(folder, "calibrate", str(folder / "int8.json"), *options, "TEST.COMPILE", "False"))
        assert ("Detections: 0 in float32" not in capsys.readouterr().out) is expected


@pytest.mark.parametrize("name", ["calibrate", "export"])
def test_exported_models_are_no_weights(name, folder, capsys):
    output = {"calibrate": ["--output", "x.json", "--input", str(folder / "images")], "export": ["--output", "x.pt2"]}
    (folder / "model.onnx").touch()
    text = refuses(capsys, [name, "--weights", str(folder / "model.onnx"), *output.get(name, [])])
    assert "model.onnx is an exported model: give the weights that it was exported from" in text
