"""kill -9 of a training costs at most one checkpoint period; of a launching process, none of its processes remains."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.forked import CONTEXT
from tests.training.killing import ITERATIONS, PERIOD, train
from tests.training.tiny import write_dataset

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
KILLS = 8
SECONDS = 60  # that nothing here may take


def test_kill_9_at_random_moments_costs_at_most_one_period(tmp_path):
    """Several times in a row, most of them while files are written; the result is that of a training without kills."""
    write_dataset(tmp_path / "data", num_images=2, size=(24, 32))

    def start(name):
        done = CONTEXT.Value("i", 0)
        process = CONTEXT.Process(target=train, args=(str(tmp_path / "data"), str(tmp_path / name), done))
        process.start()
        return process, done

    process, done = start("unbroken")
    while done.value == 0 and process.is_alive():
        time.sleep(0.001)
    began = time.perf_counter()
    process.join(SECONDS)
    duration = time.perf_counter() - began
    assert process.exitcode == 0 and done.value == ITERATIONS

    output, moments = tmp_path / "killed", random.Random(0)
    kept = killed = 0
    for _ in range(KILLS):
        process, done = start("killed")
        while done.value <= kept and process.is_alive():
            time.sleep(0.001)
        time.sleep(moments.random() * duration / KILLS)
        process.kill()
        process.join(SECONDS)
        killed += process.exitcode == -signal.SIGKILL
        last = output / "last_checkpoint"
        name = last.read_text() if last.exists() else ""
        kept = torch.load(output / name, weights_only=False)["iteration"] + 1 if name else 0
        assert done.value - kept <= PERIOD, f"{done.value} iterations were done, and {kept} are kept"
    assert killed >= KILLS // 2
    process, done = start("killed")
    process.join(SECONDS)
    assert process.exitcode == 0 and max(kept, done.value) == ITERATIONS  # if the last kill came late, nothing is left
    one, other = (
        torch.load(tmp_path / name / "model_final.pth", weights_only=False) for name in ("unbroken", "killed")
    )
    assert one["iteration"] == other["iteration"] == ITERATIONS - 1
    for name, value in one["model"].items():
        assert torch.equal(value, other["model"][name]), name
    assert list(output.glob("*.tmp")) == []


def test_no_process_outlives_the_one_that_started_it():
    """It is killed while they start, when PyTorch's own signal does not reach them yet."""
    program = "from tests.training.killing import launch_and_die; launch_and_die(120)"
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", program], cwd=ROOT, stdout=subprocess.PIPE) as process:
        process.communicate(timeout=SECONDS)  # until nobody can write to the pipe, which all of them inherit
    assert process.returncode == -signal.SIGKILL
