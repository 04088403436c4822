"""Trainings to be killed."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import torch

from centermask_solo.training.launch import launch
from centermask_solo.training.output_folder import open_output_folder
from tests.training.tiny import RecordingTrainer, tiny_cfg

ITERATIONS, PERIOD = 40, 2


class Reporting(RecordingTrainer):
    """Tells another process how many iterations it has done."""

    done: Any = None

    def run_step(self) -> None:
        super().run_step()
        self.done.value = self.iter + 1


def train(data: str, output: str, done: Any) -> None:
    """Train for ``ITERATIONS``, resuming what is in ``output``, with a checkpoint every ``PERIOD`` iterations."""
    torch.set_num_threads(1)
    cfg = tiny_cfg(Path(data), Path(output))
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.CHECKPOINT_PERIOD, cfg.SOLVER.STEPS = ITERATIONS, PERIOD, (20,)
    cfg.DATASETS.TEST = ()
    cfg.SEED = 3
    torch.manual_seed(0)
    open_output_folder(cfg, argparse.Namespace(resume=True, eval_only=False))
    Reporting.done = done
    trainer = Reporting(cfg)
    trainer.resume_or_load(resume=True)
    trainer.train()


def launch_and_die(seconds: float) -> None:
    """Start two processes that do nothing for a while, and be killed before they have begun to."""

    def die() -> None:
        while len(multiprocessing.active_children()) < 2:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=die, daemon=True).start()
    options = {"num_gpus": 2, "num_machines": 1, "machine_rank": 0, "dist_url": "auto", "seconds": seconds}
    launch(sleep, argparse.Namespace(**options), on_cpu=True)


def sleep(args: argparse.Namespace) -> None:
    """Do nothing, in each of the processes."""
    time.sleep(args.seconds)
