"""The demo, from its data to its summary."""

import logging
import os

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from centermask_solo import demo
from centermask_solo.config import config_dir
from centermask_solo.data.shapes.generator import generate_shapes
from centermask_solo.utils.errors import ConfigError, WeightsError


def test_every_demo_has_its_config():
    for name in demo.demo_configs().values():
        assert (config_dir() / name).is_file()


def test_command_of_a_checkout_and_of_an_installed_package(monkeypatch, tmp_path):
    command = demo.train_command("x.yaml", ["A", "1"])
    assert [part.rsplit("/")[-1] for part in command[1:]] == ["train_net.py", "--config-file", "x.yaml", "A", "1"]
    monkeypatch.setattr(demo, "config_dir", lambda: tmp_path / "configs")
    assert demo.train_command("x.yaml", [])[1:] == ["-m", "centermask_solo.cli", "train", "--config-file", "x.yaml"]


def no_connection(output):
    raise WeightsError("no connection")


def paths(folder):
    return [str(folder / "annotations.json"), str(folder / "images")]


@pytest.fixture
def options(tmp_path, monkeypatch):
    """Options that replace the demo's data by a few images."""
    monkeypatch.setattr(demo.mobilenetv2_imagenet, "prepare", no_connection)
    for split, count in (("train", 12), ("val", 4)):
        generate_shapes(tmp_path / "shapes", split, count)
    data = [[f"demo_{split}", *paths(tmp_path / "shapes" / split)] for split in ("train", "val")]
    opts = ["DATASETS.COCO_JSON", str(data), "DATASETS.TRAIN", "('demo_train',)", "DATASETS.TEST", "('demo_val',)"]
    return [*opts, "SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "2", "DATALOADER.NUM_WORKERS", "2"]


def state_of_the_process():
    loggers = [logging.getLogger(name) for name in ("", "detectron2", "fvcore", "centermask_solo", "torch")]
    handlers = [(logger.level, logger.propagate, list(logger.handlers)) for logger in loggers]
    return handlers, sorted(DatasetCatalog.list()), sorted(MetadataCatalog.list())


def test_errors_of_the_training_reach_the_caller(options, tmp_path, capfd):
    before = state_of_the_process()
    with pytest.raises(WeightsError, match=r"MODEL\.WEIGHTS: there is no file absent\.pth"):
        demo.run_demo("solov2", str(tmp_path / "output"), [*options, "MODEL.WEIGHTS", "absent.pth"])
    captured = capfd.readouterr()
    assert "2. Training: 2 iterations on 12 images, evaluated on 4 others" in captured.out
    assert "Traceback" not in captured.out + captured.err
    assert state_of_the_process() == before


@pytest.mark.slow
def test_whole_demo(options, tmp_path, capfd):
    before = state_of_the_process()
    output = tmp_path / "output"
    demo.run_demo("solov2", str(output), options)
    captured = capfd.readouterr()
    assert captured.err == ""
    text = captured.out
    assert "will find less: no connection" in text
    assert "iteration 2 of 2" in text and "evaluating on demo_val" in text
    assert "mask" in text
    assert f"side by side: {output}/contact_sheet.png" in text
    assert (output / "contact_sheet.png").stat().st_size > 10_000
    assert text.count(" -m centermask_solo.cli ") == 2
    assert f"--weights {os.path.join(output, 'model_final.pth')} --input " in text
    log = (output / "log.txt").read_text()
    assert " --overwrite " in text.split("The same without the demo")[1]
    with pytest.raises(ConfigError, match=r"contact_sheet\.png exists already: choose another name, or replace it"):
        demo.run_demo("solov2", str(output), options)
    for detail in ("total_loss", "Start inference on 4 batches"):
        assert detail in log and detail not in text
    assert "detectron2 INFO" not in text and "DONE" not in text
    assert state_of_the_process() == before


@pytest.mark.slow
def test_the_demo_replaces_its_own_results(options, tmp_path, monkeypatch, capfd):
    """As `make demo` does for the second time; and those in a folder of the user's only if that is asked for."""
    monkeypatch.setattr(demo, "config_dir", lambda: config_dir().resolve())
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "output" / "demo_solov2"
    output.mkdir(parents=True)
    for name in ("model_final.pth", "contact_sheet.png"):
        (output / name).write_bytes(b"of an earlier demo")
    options = [*options[:6], "SOLVER.MAX_ITER", "1", "SOLVER.IMS_PER_BATCH", "2", "DATALOADER.NUM_WORKERS", "0"]
    demo.run_demo("solov2", "", options)
    text = capfd.readouterr().out
    assert "The results of an earlier training in output/demo_solov2 are replaced." in text
    assert (output / "model_final.pth").stat().st_size > 10_000 < (output / "contact_sheet.png").stat().st_size


def test_a_training_of_the_user_is_kept(options, tmp_path, capfd):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model_0000099.pth").write_bytes(b"dear")
    with pytest.raises(ConfigError, match=r"mine holds another training \(model_0000099\.pth\): continue it with"):
        demo.run_demo("solov2", str(tmp_path / "mine"), options)
    assert (tmp_path / "mine" / "model_0000099.pth").read_bytes() == b"dear"


def test_imagenet_weights_are_downloaded_if_possible(monkeypatch):
    fetched = []
    monkeypatch.setattr(demo.mobilenetv2_imagenet, "prepare", fetched.append)
    assert demo.initial_weights("weights/mobilenet_v2_imagenet.pth") == []
    assert demo.initial_weights("other.pth") == [] == demo.initial_weights("")
    assert [str(x) for x in fetched] == ["weights/mobilenet_v2_imagenet.pth"]
    monkeypatch.setattr(demo.mobilenetv2_imagenet, "prepare", no_connection)
    assert demo.initial_weights("weights/mobilenet_v2_imagenet.pth") == demo.FROM_SCRATCH
