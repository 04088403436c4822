"""Lines about the progress of a training."""

import io
import re
import time
from types import SimpleNamespace

import pytest
import torch
from detectron2.engine import HookBase

from centermask_solo.training import progress
from centermask_solo.training.progress import ProgressPrinter, format_seconds, progress_line
from centermask_solo.training.run import run_training
from tests.training.tiny import register, tiny_cfg, write_dataset


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 min 00 s"), (425.9, "7 min 05 s"), (3599, "59 min 59 s"), (7620, "2 h 07 min")]
)
def test_durations(seconds, text):
    assert format_seconds(seconds) == text


def test_line():
    line = progress_line(20, 400, 3.5239, elapsed=75.2, left=1428.8, speed="2.1 images/s, 1.3 GB")
    expected = "iteration  20 of 400   loss  3.524   2.1 images/s, 1.3 GB   1 min 15 s elapsed, 23 min 48 s left"
    assert line == expected
    last = progress_line(2, 2, 2.5, elapsed=0, left=0, speed="1 images/s, 1.3 GB")
    assert last == "iteration 2 of 2   loss  2.500   1 images/s, 1.3 GB   0 min 00 s elapsed"


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
        "iteration 1 of 5",
        "iteration 2 of 5",
        "iteration 4 of 5",
        "evaluating on tiny",
        "iteration 5 of 5",
        "evaluating on tiny",
    ]
    register(tmp_path / "data")


def test_without_evaluation(cfg):
    cfg.DATASETS.TEST = ()
    assert printed(cfg, period=3) == ["iteration 1 of 5", "iteration 3 of 5", "iteration 5 of 5"]


def lines_of(seconds, monkeypatch, evaluation=0.0, eval_period=0, test_images=0, preparation=0.0):
    """The lines of a training whose iterations take ``seconds`` each, by a clock of its own."""
    now, file = [0.0], io.StringIO()
    monkeypatch.setattr(progress, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    printer = ProgressPrinter(period=10, file=file, indent=2)
    history = SimpleNamespace(history=lambda name: SimpleNamespace(median=lambda window: 1.0))
    solver, test = SimpleNamespace(EVAL_PERIOD=eval_period), SimpleNamespace(TEST=("val",))
    printer.trainer = SimpleNamespace(start_iter=0, iter=0, max_iter=len(seconds), storage=history)
    printer.trainer.cfg = SimpleNamespace(TEST=solver, DATASETS=test, SOLVER=SimpleNamespace(IMS_PER_BATCH=6))
    printer.trainer.cfg.MODEL = SimpleNamespace(EMA=SimpleNamespace(ENABLED=False), DEVICE="cpu")
    monkeypatch.setattr(progress, "count_test_images", lambda cfg: test_images)
    monkeypatch.setattr(progress, "_memory", lambda device: 1.5e9)
    printer.before_train()
    now[0] += preparation
    for i, duration in enumerate(seconds):
        printer.trainer.iter = i
        printer.before_step()
        now[0] += duration
        printer.after_step()
        if eval_period and (i + 1) % eval_period == 0:
            now[0] += evaluation
    return [line for line in file.getvalue().splitlines() if "iteration" in line]


def test_the_time_left_follows_the_recent_iterations(monkeypatch):
    """Neither a slow start, nor how fast the machine was long ago counts; evaluations that will come do."""
    lines = lines_of([60.0] + [1.0] * 49 + [3.0] * 150 + [3.0] * 100, monkeypatch, evaluation=500.0, eval_period=100)
    speed = "0.1 images/s, 1.5 GB"
    assert lines[0] == f"  iteration   1 of 300   loss  1.000   {speed}   1 min 00 s elapsed, 4 h 59 min left"
    left = {line.split()[1]: line.rpartition(", ")[2] for line in lines}
    assert left["50"] == "4 min 10 s left"  # 250 iterations of 1 second
    assert left["190"] == "22 min 10 s left"  # 110 iterations of 3 seconds, and two evaluations of 500
    assert left["210"] == "12 min 50 s left"  # 90, and one
    assert left["300"] == "8 min 20 s left"


class SlowLater(HookBase):
    """Makes iterations from the 30th on several times as long, as where another program begins to run."""

    def before_step(self):
        if self.trainer.iter == 0:
            self.start = time.perf_counter()
        if self.trainer.iter == 30:
            self.longer = min(max(6 * (time.perf_counter() - self.start) / 30, 0.06), 0.3)
        if self.trainer.iter >= 30:
            time.sleep(self.longer)


class Stamped(io.StringIO):
    """Notes when each line is written."""

    def __init__(self):
        super().__init__()
        self.times = []

    def write(self, text):
        if text.strip():
            self.times.append(time.perf_counter())
        return super().write(text)


def test_the_time_left_is_that_of_a_real_training_whose_machine_gets_slower(cfg, monkeypatch):
    """What is said after 40 of 50 iterations comes true but for a factor of two; by the mean of all, it would not."""
    monkeypatch.setattr(progress, "RECENT", 10)
    monkeypatch.setattr(progress, "format_seconds", "{:.3f}".format)
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS, cfg.DATASETS.TEST, file = 50, (), (), Stamped()
    run_training(cfg, hooks=[ProgressPrinter(1, file), SlowLater()])
    lines = file.getvalue().splitlines()
    assert len(lines) == len(file.times) == 50
    said, came = float(lines[39].split()[-2]), file.times[49] - file.times[39]
    assert came >= 10 * 0.06 and came / 2 < said < 2 * came


def test_an_evaluation_before_the_first_iteration_does_not_count(monkeypatch):
    """That of a resumed training."""
    lines = lines_of([2.0] * 20, monkeypatch, preparation=900.0)
    assert (
        lines == lines_of([2.0] * 20, monkeypatch) and "3 images/s, 1.5 GB   0 min 02 s elapsed, 0 min 38" in lines[0]
    )


def test_the_memory_is_that_of_the_device(monkeypatch):
    """Not that of a GPU that the training does not use."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 7)
    assert progress._memory("cuda") == progress._memory("cuda:1") == 7 < progress._memory("cpu")


def test_before_the_first_evaluation_its_time_is_that_of_training(monkeypatch):
    """60 images in batches of 6, in iterations of 2 seconds: 20 seconds for each of the two evaluations."""
    lines = lines_of([2.0] * 40, monkeypatch, evaluation=1.0, eval_period=20, test_images=60)
    left = {line.split()[1]: line.rpartition(", ")[2] for line in lines}
    assert left["10"] == "1 min 40 s left"  # 30 x 2 + 2 x 20
    assert left["30"] == "0 min 21 s left"  # 10 x 2 + 1
    assert "3 images/s" in lines[1]


def test_no_silence_during_slow_iterations(monkeypatch):
    assert len(lines_of([40.0] * 5, monkeypatch)) == 5
    assert len(lines_of([20.0] * 6, monkeypatch)) == 4  # after 20, 60 and 100 seconds, and the last
