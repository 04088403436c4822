"""``centermask-solo evaluate``: weights and results, on files of one's own and on registered datasets."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from centermask_solo.cli import main
from centermask_solo.config import default_config, value_of
from centermask_solo.model_zoo.evaluating import READ_BESIDE_MODELS
from tests.commands import fails
from tests.evaluation.scenes import Scene
from tests.runtime.files import ABOUT, write_onnx
from tests.training.tiny import TinyModel, register, tiny_cfg, write_dataset

BOX = (10, 10, 20, 20)


@pytest.fixture
def model(tmp_path):
    """Weights that find one of two classes, and the folder of their data."""
    data, output = tmp_path / "data", tmp_path / "output"
    write_dataset(data, num_images=4)
    cfg = tiny_cfg(data, output)
    torch.save({"model": TinyModel(cfg).state_dict()}, output / "weights.pth")
    config = {"VERSION": 2, "MODEL": {"META_ARCHITECTURE": "TinyModel", "DEVICE": "cpu"}}
    config |= {"INPUT": {"MIN_SIZE_TEST": 32}, "DATALOADER": {"NUM_WORKERS": 0}}
    (output / "config.yaml").write_text(yaml.safe_dump(config))
    return str(output / "weights.pth"), data


def test_weights_on_files_of_ones_own(model, tmp_path, capsys):
    weights, data = model
    files = ["--ground-truth", str(data / "instances.json"), "--images", str(data)]
    output, metrics = tmp_path / "evaluation", tmp_path / "metrics.json"
    argv = ["evaluate", "--weights", weights, *files, "--output", str(output), "--json", str(metrics)]
    main([*argv, "--device", "cpu", "--dtype", "float32"])
    assert "AP50" in capsys.readouterr().out
    found = json.loads(metrics.read_text())
    # Every other detection is right, and no dog is found
    assert found["segm"]["AP"] == pytest.approx(25) and found["segm"]["AP-cat"] == pytest.approx(50)
    assert json.loads((output / "evaluation.json").read_text()) == found
    results = output / "inference" / "instances" / "coco_instances_results.json"
    code, text = fails(capsys, *argv[:-2], "--dtype", "int8", "--output", str(tmp_path / "int8"))
    assert code == 2 and "int8 needs the ranges of the feature maps" in text
    code, text = fails(capsys, *argv)
    assert (code, text.count("\n")) == (2, 1) and "exists already" in text
    again = tmp_path / "again.json"
    code, text = fails(capsys, *argv[:-1], str(again))
    assert code == 2 and "holds the results of another run" in text
    main(["evaluate", "--results", str(results), *files[:2], "--json", str(again)])
    assert json.loads(again.read_text()) == found
    table = capsys.readouterr().out
    assert [line.split()[:2] for line in table.strip().splitlines()[-3:]] == [
        ["AP", "AP50"],
        ["box", "25.00"],
        ["mask", "25.00"],
    ]


def test_weights_on_files_in_lvis_format(model, tmp_path, capsys):
    """Of a name that Detectron2 takes for one of LVIS's own, but with two classes."""
    pytest.importorskip("lvis")
    weights, data = model
    content = json.loads((data / "instances.json").read_text())
    for i, x in enumerate(content["images"]):
        x |= {"neg_category_ids": [], "not_exhaustive_category_ids": [1] if i == 0 else []}
        x["coco_url"] = f"http://host/{data.name}/{x.pop('file_name')}"
    for x in content["categories"]:
        x["frequency"] = "c"
    (tmp_path / "my_v1.json").write_text(json.dumps(content))
    files = ["--ground-truth", str(tmp_path / "my_v1.json"), "--images", str(tmp_path), "--output", str(tmp_path / "e")]
    main(["evaluate", "--weights", weights, *files])
    found = json.loads((tmp_path / "e" / "evaluation.json").read_text())["segm"]
    assert found["AP"] == found["APc"] == pytest.approx(50) and found["APr"] is None  # all cats, and no dog
    assert (tmp_path / "e" / "inference" / "my_v1" / "lvis_instances_results.json").exists()


def test_weights_on_a_registered_dataset(model, tmp_path, capsys):
    weights, data = model
    register(data, "evaluated")
    argv = ["evaluate", "--weights", weights, "--dataset", "evaluated", "--output", str(tmp_path / "evaluation")]
    main([*argv, "INPUT.MIN_SIZE_TEST", "48"])
    assert "mask" in capsys.readouterr().out
    assert "MIN_SIZE_TEST: 48" in Path(tmp_path, "evaluation", "config.yaml").read_text()
    main([*argv, "--overwrite", "--json", str(tmp_path / "m.json")])
    code, text = fails(capsys, *argv[:3], "--dataset", "evaluate", "--output", str(tmp_path / "other"))
    assert code == 2 and "the nearest one is evaluated" in text


def test_more_than_100_detections_of_weights_count(model, tmp_path, monkeypatch):
    """As many as the model may return, by TEST.DETECTIONS_PER_IMAGE."""
    from centermask_solo.evaluation import build

    weights, data = model
    limits = []
    kind = build.MaskScoreCOCOEvaluator
    monkeypatch.setattr(
        build, "MaskScoreCOCOEvaluator", lambda *x, **y: limits.append(y["max_dets_per_image"]) or kind(*x, **y)
    )
    files = ["--ground-truth", str(data / "instances.json"), "--images", str(data), "--output", str(tmp_path / "e")]
    main(["evaluate", "--weights", weights, *files, "TEST.DETECTIONS_PER_IMAGE", "333"])
    assert limits == [333]
    assert json.loads((tmp_path / "e" / "evaluation.json").read_text())["segm"]["AP"] == pytest.approx(25)


def test_wrong_input_ends_in_one_line(model, tmp_path, capsys):
    weights, data = model
    scene = Scene(tmp_path, [(0, 0, BOX)], [(0, 0, BOX, 0.9)])
    files = ["--ground-truth", str(scene.json_file)]
    of_results = ["evaluate", "--results", str(scene.results_file), *files]
    of_weights = ["evaluate", "--weights", weights]
    tries = {
        "--results needs no model: leave out --dtype, MODEL.DEVICE": [
            *of_results,
            "--dtype",
            "int8",
            "MODEL.DEVICE",
            "x",
        ],
        "leave out --output; --json FILE keeps the metrics": [*of_results, "--output", str(tmp_path / "e")],
        "leave out --verbose and --overwrite": [*of_results, "--overwrite"],
        "is an input": [*of_results, "--json", str(scene.results_file), "--overwrite"],
        "leave out --threads": [*of_results, "--threads", "2"],
        "--providers is for exported files": [
            *(*of_weights, *files, "--images", str(data), "--providers", "CPUExecutionProvider"),
            *("--output", str(tmp_path / "e")),
        ],
        "--max-detections is for --results": [*of_weights, *files, "--max-detections", "300"],
        "give the folder of the images": [*of_weights, *files],
        "absent.json is missing": ["evaluate", "--results", str(tmp_path / "absent.json"), *files],
        "the annotation file": ["evaluate", "--results", str(scene.results_file), "--ground-truth", "absent.json"],
        "has the image_id 10": [
            *("evaluate", "--results", str(scene.results_file), "--ground-truth", str(data / "instances.json"))
        ],
    }
    for message, argv in tries.items():
        code, text = fails(capsys, *argv)
        assert code == 2 and text.startswith("error: ") and text.count("\n") == 1 and message in text, text


def test_exported_files_obey_no_options_of_the_model(tmp_path, capsys):
    (tmp_path / "model.onnx").write_bytes(b"")
    argv = ["evaluate", "--weights", str(tmp_path / "model.onnx"), "--dataset", "shapes_val", "--dtype", "bfloat16"]
    argv += ["--output", str(tmp_path / "x"), "DATALOADER.NUM_WORKERS", "0", "TEST.EVAL_BACKEND", "pycocotools"]
    fixed = ["MODEL.YOLACT.SCORE_THRESH_TEST", "0.99", "TEST.DETECTIONS_PER_IMAGE", "3", "TEST.COMPILE", "True"]
    code, text = fails(capsys, *argv, *fixed)
    assert (code, text.count("\n")) == (2, 1)
    assert f"is an exported model, whose options are fixed: leave out --dtype, {', '.join(fixed[::2])}\n" in text


def test_options_that_data_and_evaluators_read_are_those_of_exported_files(tmp_path, capsys):
    (tmp_path / "model.onnx").write_bytes(b"")
    for option in READ_BESIDE_MODELS:
        argv = ["evaluate", "--weights", str(tmp_path / "model.onnx"), "--dataset", "shapes_val", option, "1"]
        assert "whose options are fixed" not in fails(capsys, *argv, "--output", str(tmp_path / option))[1]
        assert value_of(default_config(), option) is not None


def test_exported_files_run_with_these_threads_and_providers(model, tmp_path, monkeypatch, capsys):
    import onnxruntime

    data = model[1]
    config = {"VERSION": 2, "MODEL": {"META_ARCHITECTURE": "TinyModel"}, "DATALOADER": {"NUM_WORKERS": 0}}
    config |= {"INPUT": {"MIN_SIZE_TEST": 32, "MAX_SIZE_TEST": 100, "FORMAT": ABOUT.input.channel_order}}
    about = replace(ABOUT, config=yaml.safe_dump(config), class_names=("cat", "dog"))
    path = write_onnx(tmp_path / "model.onnx", about)
    threads, options = [], onnxruntime.SessionOptions
    monkeypatch.setattr(onnxruntime, "SessionOptions", lambda: threads.append(options()) or threads[-1])
    argv = ["evaluate", "--weights", path, "--ground-truth", str(data / "instances.json"), "--images", str(data)]
    argv += ["--threads", "3", "--output", str(tmp_path / "e"), "--providers"]
    main([*argv, "CPUExecutionProvider"])
    assert threads[-1].intra_op_num_threads == 3
    assert "segm" in json.loads((tmp_path / "e" / "evaluation.json").read_text())
    code, text = fails(capsys, *argv, "NoProvider", "--overwrite")
    assert code == 2 and "this ONNX Runtime has no provider 'NoProvider'" in text


def test_help_has_examples(capsys):
    for command in ("evaluate", "analyze"):
        code, text = fails(capsys, command, "--help")
        assert code == 0 and f"  centermask-solo {command} " in text
