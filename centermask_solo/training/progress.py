"""Progress of a training in lines for people to read."""

from __future__ import annotations

import sys
import time
from collections import deque
from statistics import fmean
from typing import TextIO

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm

from ..data.datasets import load_dataset
from ..utils.memory import resident_bytes

SMOOTHED = 20  # iterations; the median of their losses is shown
RECENT = 100  # iterations; the time left is that of their mean
RECENT_EVALUATIONS = 3
GIGA = 1e9
MAX_SILENCE = 30.0  # seconds between two lines, if iterations do not take longer


class ProgressPrinter(HookBase):
    """Prints the iteration, the loss, the speed, the memory, the time elapsed and left, and when evaluation starts.

    Only the main process prints. The time left is that of as many iterations as there are left, as long as the recent
    ones were, so that it follows the load of the machine, without the first iteration, which prepares what the others
    find; and of the evaluations that will come, as long as those before, or else as long as training on as many images
    takes. It must run before Detectron2's hooks, as those given to :class:`~centermask_solo.training.trainer.Trainer`
    do.
    """

    def __init__(self, period: int = 20, file: TextIO | None = None, indent: int = 0) -> None:
        """
        Args:
            period: Iterations between two lines at most; the first and the last iteration have a line in any case.
            file: Where the lines go (default: standard output, as it is now).
            indent: Spaces in front of each line.
        """
        self._period = period
        self._file = file or sys.stdout
        self._indent = " " * indent
        self._recent: deque[float] = deque(maxlen=RECENT)  # seconds of iterations
        self._evaluations: deque[float] = deque(maxlen=RECENT_EVALUATIONS)  # seconds of each
        self._start = self._last_step = self._last_line = 0.0
        self._evaluated = False  # since the last step
        self._test_images = 0

    def before_train(self) -> None:
        if comm.is_main_process():
            self._test_images = count_test_images(self.trainer.cfg)

    def before_step(self) -> None:
        now = time.perf_counter()
        if self.trainer.iter == self.trainer.start_iter:  # not before, when resumed training may evaluate
            self._start = self._last_step = now
        if self._evaluated:
            self._evaluations.append(now - self._last_step)
            self._last_step, self._evaluated = now, False

    def after_step(self) -> None:
        if not comm.is_main_process():
            return
        trainer, now = self.trainer, time.perf_counter()
        done = trainer.iter + 1
        is_first = trainer.iter == trainer.start_iter
        if not is_first:
            self._recent.append(now - self._last_step)
        self._last_step = now
        is_due = done % self._period == 0 or now - self._last_line > MAX_SILENCE
        if is_first or is_due or done == trainer.max_iter:
            loss = trainer.storage.history("total_loss").median(SMOOTHED)
            rate = fmean(self._recent) if self._recent else now - self._start
            memory = _memory(trainer.cfg.MODEL.DEVICE)
            speed = f"{trainer.cfg.SOLVER.IMS_PER_BATCH / max(rate, 1e-9):.3g} images/s, {memory / GIGA:.1f} GB"
            left = (trainer.max_iter - done) * rate + self._evaluations_left(done) * self._evaluation(rate)
            self._print(progress_line(done, trainer.max_iter, loss, now - self._start, left, speed))
            self._last_line = now
        period = trainer.cfg.TEST.EVAL_PERIOD
        is_evaluation_due = done == trainer.max_iter or (period > 0 and done % period == 0)
        self._evaluated = bool(trainer.cfg.DATASETS.TEST) and is_evaluation_due
        if self._evaluated:
            self._print(f"evaluating on {', '.join(trainer.cfg.DATASETS.TEST)}")

    def _evaluations_left(self, done: int) -> int:
        """Return the number of evaluations from iteration ``done``, whose own is still to come, to the end."""
        cfg, last = self.trainer.cfg, self.trainer.max_iter
        if not cfg.DATASETS.TEST:
            return 0
        period = cfg.TEST.EVAL_PERIOD
        return 1 + (-(-last // period) - -(-done // period) if period > 0 else 0)

    def _evaluation(self, rate: float) -> float:
        """Return the seconds of an evaluation, from those before or from the seconds of an iteration."""
        if self._evaluations:
            return fmean(self._evaluations)
        cfg = self.trainer.cfg
        return self._test_images * rate / cfg.SOLVER.IMS_PER_BATCH * (2 if cfg.MODEL.EMA.ENABLED else 1)

    def _print(self, line: str) -> None:
        print(self._indent + line, file=self._file, flush=True)


def count_test_images(cfg: CfgNode) -> int:
    """Return the number of images of ``DATASETS.TEST``."""
    return sum(len(load_dataset(name)) for name in cfg.DATASETS.TEST)


def _memory(device: str) -> int:
    """Return the memory of a training on a device, in bytes: on a GPU the highest so far, else that of this process."""
    return torch.cuda.max_memory_allocated() if torch.device(device).type == "cuda" else resident_bytes()


def progress_line(done: int, max_iter: int, loss: float, elapsed: float, left: float, speed: str) -> str:
    """Return a line such as in the documentation of training, with the loss, the speed, and the times elapsed and left.

    Args:
        done: Iterations done so far.
        max_iter: Iterations of the whole training.
        loss: Value to show.
        elapsed: Seconds since the start.
        left: Seconds to the end.
        speed: Speed and memory.
    """
    width = len(str(max_iter))
    line = f"iteration {done:{width}d} of {max_iter}   loss {loss:6.3f}   {speed}   {format_seconds(elapsed)} elapsed"
    return f"{line}, {format_seconds(left)} left" if done < max_iter or left else line


def format_seconds(seconds: float) -> str:
    """Return such as "7 min 05 s" or "2 h 07 min"."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
