"""Lines about the progress of a training."""

import io
import re

import pytest

from centermask_solo.training.progress import ProgressPrinter, format_seconds, progress_line
from centermask_solo.training.run import run_training
from tests.training.tiny import register, tiny_cfg, write_dataset


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 min 00 s"), (425.9, "7 min 05 s"), (3599, "59 min 59 s"), (7620, "2 h 07 min")]
)
def test_durations(seconds, text):
    assert format_seconds(seconds) == text


def test_line():
    line = progress_line(20, 400, 3.5239, seconds=75.2, timed=20)
    assert line == "iteration  20 of 400   loss  3.524   1 min 15 s elapsed, 23 min 48 s left"
    resumed = progress_line(200, 400, 1.0, seconds=10, timed=20)
    assert resumed.endswith("0 min 10 s elapsed, 1 min 40 s left")
    assert progress_line(2, 2, 2.5, seconds=0, timed=2) == "iteration 2 of 2   loss  2.500   0 min 00 s elapsed"


@pytest.fixture
def cfg(tmp_path):
    write_dataset(tmp_path / "data", num_images=2)
    cfg = tiny_cfg(tmp_path / "data", tmp_path / "output")
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.SOLVER.MAX_ITER = 5
    return cfg


def printed(cfg, period=2):
    file = io.StringIO()
    run_training(cfg, hooks=[ProgressPrinter(period, file)])
    return [re.sub(r"  .*", "", line.strip()) for line in file.getvalue().splitlines()]


def test_every_period_the_last_iteration_and_evaluations_are_printed(cfg, tmp_path):
    cfg.TEST.EVAL_PERIOD = 4
    assert printed(cfg) == [
        "iteration 2 of 5",
        "iteration 4 of 5",
        "evaluating on tiny",
        "iteration 5 of 5",
        "evaluating on tiny",
    ]
    register(tmp_path / "data")


def test_without_evaluation(cfg):
    cfg.DATASETS.TEST = ()
    assert printed(cfg, period=3) == ["iteration 3 of 5", "iteration 5 of 5"]
