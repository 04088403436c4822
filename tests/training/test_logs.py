"""The log of a run: on the screen, or in its file alone without a trace in the process."""

import argparse
import json
import logging
import warnings

import pytest
import torch

from centermask_solo.cli.train import main
from centermask_solo.training.logs import LOGGERS, _SummaryHandler, output_in_log, prints_in_log, set_up_run, start_log
from centermask_solo.training.setup import setup_cfg
from centermask_solo.utils.errors import UserError
from tests.training.tiny import tiny_cfg, write_dataset

ARGS = argparse.Namespace(config_file="", eval_only=False)


def states():
    loggers = [logging.getLogger(name) for name in LOGGERS]
    return [(logger.level, logger.propagate, list(logger.handlers)) for logger in loggers]


def log_of_each(tmp_path, screen):
    """Set up the log, with a record of each logger before and after its file is known."""
    write_dataset(tmp_path / "data", num_images=1)
    cfg = tiny_cfg(tmp_path / "data", tmp_path)
    memory = start_log(screen)
    records(0)
    set_up_run(cfg, ARGS, memory)
    records(1)


def records(i):
    for name in LOGGERS:
        logging.getLogger(f"{name}.part").info(f"info of {name} {i}")
        logging.getLogger(f"{name}.part").warning(f"warning of {name} {i}")


def test_everything_is_printed_and_written(tmp_path, capsys):
    log_of_each(tmp_path, "everything")
    for text in (capsys.readouterr().out, (tmp_path / "log.txt").read_text()):
        assert text.count("Full config saved") == text.count("Environment info") == 1
        for i in range(2):
            assert all(text.count(f"{kind} of {name} {i}") == 1 for name in LOGGERS for kind in ("info", "warning"))


def test_the_screen_gets_a_summary_and_the_file_everything(tmp_path, capsys):
    for _ in range(2):  # the second run of a process prints nothing twice
        log_of_each(tmp_path, "summary")
        lines = capsys.readouterr().out.splitlines()
        warned = [[f"warning: warning of {name} {i}" for name in LOGGERS] for i in range(2)]
        infos = [f"info of centermask_solo {i}" for i in range(2)]
        assert lines == [*warned[0][:2], infos[0], warned[0][2], *warned[1][:2], infos[1], warned[1][2]]
    text = (tmp_path / "log.txt").read_text()
    assert text.count("Full config saved") == text.count("info of detectron2 0") == text.count("info of fvcore 1") == 2


def test_progress_of_an_evaluation_is_printed_now_and_then(capsys):
    start_log()
    logger = logging.getLogger("detectron2.evaluation.evaluator")
    for i in (11, 12):
        logger.info(f"Inference done {i}/50. Dataloading: 0.1 s/iter. Inference: 0.1 s/iter. ETA=0:00:07")
    logger.info("Total inference time: 0:00:09")
    assert capsys.readouterr().out == "evaluated 11 of 50 batches, 0:00:07 left\n"


def test_prints_of_evaluators_are_logged_if_there_is_a_log(capsys):
    logger = logging.Logger("prints")
    with prints_in_log(logger):
        print("printed")
    assert capsys.readouterr().out == "printed\n"
    seen = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage())
    logger.addHandler(handler)
    with prints_in_log(logger):
        print("DONE", end="")
        print(" (t=0.00s)\n")
    assert seen == ["DONE (t=0.00s)"] and capsys.readouterr().out == ""


@pytest.mark.parametrize("verbose", [False, True])
def test_what_a_training_prints(tmp_path, capsys, verbose):
    """About ten lines of summary, then progress and results; --verbose prints the log."""
    write_dataset(tmp_path / "data", num_images=4)
    cfg = tiny_cfg(tmp_path / "data", tmp_path / "output")
    cfg.MODEL.pop("TINY_DROPOUT")  # not an option of the package
    (tmp_path / "config.yaml").write_text(cfg.dump())
    flags = {"resume": False, "eval_only": False, "verbose": verbose}
    opts = ["SOLVER.MAX_ITER", "2", "SOLVER.REFERENCE_WORLD_SIZE", "2", "SOLVER.STEPS", "(1,)"]
    opts += ["SOLVER.WARMUP_ITERS", "1"]
    main(argparse.Namespace(config_file=str(tmp_path / "config.yaml"), opts=opts, **flags))
    text = capsys.readouterr().out
    log = (tmp_path / "output" / "log.txt").read_text()
    for entry in ("Running with full config", "TinyModel(", "total_loss", "metrics of bbox by"):
        assert entry in log
    if verbose:
        assert "Running with full config" in text and "TinyModel(" in text and "iteration 1 of" not in text
        return
    rule, *lines = text.splitlines()
    assert rule.startswith(
        "1 process, SOLVER.REFERENCE_WORLD_SIZE 2: batch size and learning rate times 1/2; iterations"
    )
    assert lines[:9] == [
        "data        tiny: 4 images, 4 objects, 2 classes (cat, dog)",
        "evaluation  tiny, at the end",
        "model       TinyModel, build_resnet_backbone, 0.0 million parameters, 0.0 of them trained",
        "weights     none: everything starts from random values",
        "schedule    4 iterations of 2 images: 2 epochs",
        "optimizer   SGD, learning rate 0.025 after a warm-up of 2 iterations, times 0.1 at iteration 2",
        f"device      cpu, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}, float32",
        f"output      {tmp_path / 'output'}",
        f"log         {tmp_path / 'output' / 'log.txt'}, with all options (on the screen: --verbose)",
    ]
    assert lines[9].startswith("iteration 1 of 4   loss") and lines[10].startswith("iteration 4 of 4   loss")
    assert lines[11] == "evaluating on tiny"
    assert [line.split()[0] for line in lines[12:]] == ["COCO's", "COCO's", "Evaluation", "AP", "box", "mask"]
    opts = ["MODEL.WEIGHTS", str(tmp_path / "output" / "model_final.pth"), "SOLVER.AMP.ENABLED", "True"]
    opts += ["TEST.DTYPE", "bfloat16"]  # SOLVER.AMP is about training
    main(argparse.Namespace(config_file=str(tmp_path / "config.yaml"), opts=opts, **flags | {"eval_only": True}))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "data        tiny, 2 classes (cat, dog)"
    assert lines[2].startswith("device      cpu, ") and lines[2].endswith(", bfloat16")
    assert "mixed precision" not in lines[2]
    assert [line.split()[0] for line in lines[5:]] == ["COCO's", "COCO's", "Evaluation", "AP", "box", "mask"]


def test_log_off_the_screen(tmp_path, capfd):
    write_dataset(tmp_path / "data", num_images=1)
    cfg = tiny_cfg(tmp_path / "data", tmp_path)
    before, filters = states(), list(warnings.filters)
    for i in range(2):  # the second run in the same folder logs, too
        with output_in_log(str(tmp_path)):
            set_up_run(cfg, ARGS, start_log("nothing"))
            for name in LOGGERS:
                logging.getLogger(f"{name}.part").warning(f"warning of {name} {i}")
            print(f"printed {i}")
            warnings.warn("nobody reads this", stacklevel=1)
        assert states() == before
    assert list(warnings.filters) == filters
    assert capfd.readouterr() == ("", "")
    text = (tmp_path / "log.txt").read_text()
    assert "nobody reads this" not in text
    for i in range(2):
        assert text.count(f"printed {i}") == 1
        assert all(text.count(f"warning of {name} {i}") == 1 for name in LOGGERS)


@pytest.fixture
def suspicious(tmp_path):
    """The arguments of a training on data with a warning."""
    write_dataset(tmp_path / "data", num_images=2)
    path = tmp_path / "data" / "instances.json"
    data = json.loads(path.read_text())
    del data["annotations"][0]["area"]
    path.write_text(json.dumps(data))
    cfg = tiny_cfg(tmp_path / "data", tmp_path / "output")
    cfg.MODEL.pop("TINY_DROPOUT")
    (tmp_path / "config.yaml").write_text(cfg.dump())
    return argparse.Namespace(config_file=str(tmp_path / "config.yaml"), opts=[], resume=False, eval_only=False)


WARNING = "instances.json: 1 x missing or negative area, such as annotation 1 (1.png): computed from the mask"


def test_warnings_before_the_log_is_set_up_reach_it(tmp_path, suspicious, capfd):
    for i in range(2):  # a second run in the same process
        setup_cfg(suspicious)
        captured = capfd.readouterr()
        (line,) = [x for x in captured.out.splitlines() if WARNING in x]
        assert line.startswith("warning: ")
        assert WARNING not in captured.err
        assert (tmp_path / "output" / "log.txt").read_text().count(WARNING) == i + 1
    logging.getLogger("centermask_solo.x").info("once")
    assert capfd.readouterr().out.count("once") == 1


def test_warnings_before_an_error_are_printed(suspicious, capfd):
    suspicious.opts = ["MODEL.WEIGHTS", "absent.pth"]
    with pytest.raises(UserError, match="absent"):
        setup_cfg(suspicious)
    captured = capfd.readouterr()
    assert WARNING in captured.out + captured.err


def test_the_screen_leaves_out_that_category_ids_have_gaps(capsys):
    """Detectron2 warns of it on two lines, each time it loads a dataset, although any ids are allowed."""
    text = "\nCategory ids in annotations are not in [1, #categories]! We'll apply a mapping for you.\n"
    for message in (text, "something else"):
        record = logging.LogRecord("detectron2.data.datasets.coco", logging.WARNING, "", 1, message, (), None)
        _SummaryHandler().handle(record)
    assert capsys.readouterr().out == "warning: something else\n"
