"""The command line: arguments in, one call, a one-line message if something is wrong."""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from detectron2.engine import default_argument_parser

from centermask_solo.cli import build_parser, main, train
from centermask_solo.demo import demo_configs
from tests.commands import fails
from tests.training.tiny import TinyModel, tiny_cfg, write_dataset

ROOT = Path(__file__).parents[2]


def test_help_lists_the_subcommands(capsys):
    code, text = fails(capsys, "--help")
    assert code == 0
    for name in ("train", "predict", "compare", "export", "demo", "benchmark", "check-dataset", "models", "weights"):
        assert name in text


def commands(parser):
    """The parsers of all commands and their actions, without those that only hold actions."""
    groups = [x for x in parser._actions if isinstance(x, argparse._SubParsersAction)]
    if not groups:
        return [parser]
    return [found for group in groups for child in group.choices.values() for found in commands(child)]


@pytest.mark.parametrize("parser", commands(build_parser()), ids=lambda parser: parser.prog)
def test_the_help_of_every_command_has_an_example_that_it_accepts(parser):
    text = f"{parser.description or ''}\n{parser.epilog or ''}".replace("\\\n", "")
    examples = re.findall(r"centermask-solo [^\n|>]*", text)
    name = parser.prog.replace("check-dataset", "data check")  # the old name
    assert any(example.startswith(f"{name} ") for example in examples)
    for example in examples:
        build_parser().parse_args(shlex.split(example)[1:])


OVERRIDES = ["MODEL.DEVICE", "cpu", "SEED", "3"]


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        (["export", "--weights", "w", "--output", "o", "--int8"], "int8"),
        (["export", "--weights", "w", "--output", "o", "--images"], "images"),
        (["benchmark", "--weights", "w", "--images"], "images"),
        (["calibrate", "--weights", "w", "--output", "o", "--input"], "input"),
        (["predict", "--weights", "w", "--output", "o", "--input"], "input"),
        (["train", "--class-names"], "class_names"),
    ],
)
def test_overrides_may_follow_a_flag_of_several_values(flags, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for values in (["a b"], ["a", "MODEL", "b.jpg", "INPUTS.x"], ["TEST.X"]):
        parsed = build_parser().parse_args([*flags, *values, *OVERRIDES])
        assert (getattr(parsed, name), parsed.opts) == (values, OVERRIDES)
        parsed = build_parser().parse_args([*flags, *values])
        assert (getattr(parsed, name), parsed.opts) == (values, [])
    Path("INPUT.PNG").touch()
    parsed = build_parser().parse_args([*flags, "a", "INPUT.PNG", "b", *OVERRIDES])
    assert (getattr(parsed, name), parsed.opts) == (["a", "INPUT.PNG", "b"], OVERRIDES)


def test_overrides_after_two_flags_of_several_values():
    flags = [
        "export",
        "--weights",
        "w",
        "--int8",
        "a",
        *OVERRIDES[:2],
        "--images",
        "b",
        *OVERRIDES[2:],
        "--output",
        "o",
    ]
    parsed = build_parser().parse_args(flags)
    assert (parsed.int8, parsed.images, parsed.output, parsed.opts) == (["a"], ["b"], "o", OVERRIDES)


def test_predict(tmp_path, capsys):
    write_dataset(tmp_path / "data", num_images=2)
    cfg = tiny_cfg(tmp_path / "data", tmp_path / "output")
    torch.save({"model": TinyModel(cfg).state_dict()}, tmp_path / "output" / "weights.pth")
    config = {"VERSION": 2, "MODEL": {"META_ARCHITECTURE": "TinyModel"}, "INPUT": {"MIN_SIZE_TEST": 32}}
    (tmp_path / "output" / "config.yaml").write_text(yaml.safe_dump(config))
    weights, data, results = (str(tmp_path / name) for name in ("output/weights.pth", "data", "results"))
    main(["predict", "--weights", weights, "--input", data, "--output", results, "MODEL.DEVICE", "cpu"])
    assert "2 instances" in capsys.readouterr().out
    assert len(json.loads(Path(results, "predictions.json").read_text())["annotations"]) == 2
    assert len(list(Path(results).glob("*.jpg"))) == 2
    again = ["predict", "--weights", weights, "--input", data, "--output", results, "--score-threshold", "0.99"]
    code, text = fails(capsys, *again, "--no-pictures")
    assert (code, text.count("\n")) == (2, 1) and "results holds the results of another run" in text
    again.append("--overwrite")
    main([*again, "--no-pictures", "--batch-size", "2"])
    assert "0 instances" in capsys.readouterr().out
    shutil.copytree(data, tmp_path / "nested" / "data")
    nested = ["predict", "--weights", weights, "--input", str(tmp_path / "nested"), "--output", results]
    code, text = fails(capsys, *nested)
    assert code == 2
    assert "its subfolders contain 2, which --recursive includes" in text
    main([*nested, "--recursive", "--no-pictures", "--overwrite"])
    assert "2 instances" in capsys.readouterr().out
    (tmp_path / "data" / "1.png").write_bytes(b"damaged")
    code, text = fails(capsys, *again, "--color-by", "class")
    assert code == 1
    assert "0 instances in 1 image" in text and text.splitlines()[-1].startswith("error: ") and "1.png" in text
    code, text = fails(capsys, *again[:3], "--input", "0", *again[5:])
    assert code == 2 and "there is no camera 0, or another program uses it: give another number" in text


def test_compare(tmp_path, capsys):
    write_dataset(tmp_path / "data", num_images=2)
    cfg = tiny_cfg(tmp_path / "data", tmp_path / "output")
    torch.save({"model": TinyModel(cfg).state_dict()}, tmp_path / "output" / "weights.pth")
    data = [["compared", str(tmp_path / "data" / "instances.json"), str(tmp_path / "data")]]
    config = {"VERSION": 2, "MODEL": {"META_ARCHITECTURE": "TinyModel"}, "INPUT": {"MIN_SIZE_TEST": 32}}
    config["DATASETS"] = {"COCO_JSON": data, "TEST": ["compared"]}
    (tmp_path / "output" / "config.yaml").write_text(yaml.safe_dump(config))
    argv = ["compare", "--weights", str(tmp_path / "output" / "weights.pth"), "--output", str(tmp_path / "sheet.png")]
    main(argv)
    assert capsys.readouterr().out.strip().endswith("sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 1000


@pytest.mark.parametrize("reads", [False, True])
def test_a_reader_that_has_enough_is_no_defect(reads):
    """As in ``centermask-solo models | head``, with more output than the pipe holds after the reader has gone."""
    program = "from centermask_solo.cli import main\nfor _ in range(20):\n    main(['models', '--json'])"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        if reads:
            process.stdout.read(1)
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 141
    assert "Traceback" not in errors and "BrokenPipe" not in errors


def test_warnings_of_commands_begin_like_errors():
    """Of a command that sets up no log: the last one that logging resorts to prints them."""
    program = "import logging\nfrom centermask_solo.cli import main\n"
    program += "main(['models', '--json'])\nlogging.getLogger('centermask_solo.x').warning('so and so')"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert result.stderr == "warning: so and so\n"


def test_predict_without_images(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("VERSION: 2\n")
    argv = ["predict", "--weights", str(tmp_path / "x.pth"), "--input", str(tmp_path / "absent"), "--output", "x"]
    code, text = fails(capsys, *argv)
    assert code == 2
    assert text.startswith("error: there is no image")


def test_check_dataset(tmp_path, capsys):
    write_dataset(tmp_path, num_images=2)
    files = [str(tmp_path / "instances.json"), str(tmp_path)]
    main(["check-dataset", *files])
    assert "2 images" in capsys.readouterr().out
    (tmp_path / "1.png").write_bytes(b"damaged")
    code, text = fails(capsys, "check-dataset", *files)
    assert code == 1
    assert "1.png" in text
    main(["check-dataset", *files, "--skip-images"])
    assert "2 images" in capsys.readouterr().out


def test_check_dataset_allows_large_images(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("centermask_solo.data.images.MAX_PIXELS", 99)
    write_dataset(tmp_path / "data", num_images=1)
    files = [str(tmp_path / "data" / "instances.json"), str(tmp_path / "data")]
    code, text = fails(capsys, "check-dataset", *files)
    assert code == 1
    assert "1.png is too large: it has 56x40 pixels, more than 99; to read it nevertheless, set" in text
    for limit in ("2240", "0"):
        main(["check-dataset", *files, "--max-image-pixels", limit])
        assert "no faults found" in capsys.readouterr().out


def test_check_dataset_for_models_without_masks(tmp_path, capsys):
    write_dataset(tmp_path, num_images=2)
    content = json.loads((tmp_path / "instances.json").read_text())
    for x in content["annotations"]:
        x["segmentation"] = []
    (tmp_path / "instances.json").write_text(json.dumps(content))
    files = [str(tmp_path / "instances.json"), str(tmp_path)]
    code, text = fails(capsys, "check-dataset", *files)
    assert code == 1
    assert "FAULT, 2 x object without mask: annotation 1 (1.png)" in text
    main(["check-dataset", *files, "--boxes-only"])
    assert "no faults found" in capsys.readouterr().out


def test_check_dataset_without_images_or_with_an_unknown_name(tmp_path, capsys):
    (tmp_path / "x.json").write_text("{}")
    code, text = fails(capsys, "check-dataset", str(tmp_path / "x.json"))
    assert (code, text) == (2, f"error: give the folder of the images after {tmp_path / 'x.json'}\n")
    code, text = fails(capsys, "check-dataset", "absent.json")
    assert (code, text) == (2, "error: there is no file absent.json: correct the path\n")
    code, text = fails(capsys, "check-dataset", "nothing_like_it")
    assert code == 2
    assert "'nothing_like_it' is not registered" in text


def test_demo_of_an_unknown_model_lists_the_known_ones(capsys):
    code, text = fails(capsys, "demo", "--model", "solov3")
    assert code == 2
    assert text == f"error: there is no demo of 'solov3'; choose one of: {', '.join(demo_configs())}\n"


OWN_DATA = [f"{split}_{what}" for split in ("train", "val") for what in ("json", "images", "dir")] + ["class_names"]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--config-file", "x.yaml", "--resume", "--eval-only", "--num-gpus", "2", "SOLVER.MAX_ITER", "2"],
        ["--num-machines", "2", "--machine-rank", "1", "--dist-url", "auto", "A", "--b"],
    ],
)
def test_train_parses_like_detectron2(words):
    ours = vars(build_parser().parse_args(["train", *words]))
    assert ours.pop("run") is train.run
    assert ours.pop("verbose") is ours.pop("overwrite") is ours.pop("auto") is False and ours.pop("batch_size") is None
    assert {ours.pop(x) for x in OWN_DATA} == {None}
    assert ours == vars(default_argument_parser().parse_args(words))


def test_train_has_the_flags_of_detectron2_and_more():
    def flags(parser):
        return {(*x.option_strings, x.dest, x.nargs, x.type and type(x.type("1")), x.default) for x in parser._actions}

    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    more = {"verbose", "overwrite", "batch_size", "auto"}
    assert {x[1] for x in flags(parser) - flags(default_argument_parser())} == {*OWN_DATA, *more}
    assert not flags(default_argument_parser()) - flags(parser)


def test_train_takes_the_flags_of_train_net(tmp_path, capsys):
    shutil.rmtree(tmp_path)
    argv = ["train", "--config-file", str(tmp_path / "x.yaml"), "--num-gpus", "1", "--resume", "SOLVER.MAX_ITER", "2"]
    code, text = fails(capsys, *argv)
    assert code == 2
    assert text.startswith(f"error: there is no config file {tmp_path / 'x.yaml'}, neither here nor in ")


@pytest.mark.parametrize("program", ["-m centermask_solo.cli train", "train_net.py"])
def test_an_error_is_all_that_is_printed(program):
    """No warnings of other packages, such as fvcore's of ``torch.jit.script``."""
    command = [sys.executable, *program.split(), "--config-file", "absent.yaml"]
    env = {key: value for key, value in os.environ.items() if key != "PYTHONWARNINGS"}
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
