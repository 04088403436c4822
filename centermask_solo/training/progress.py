"""Progress of a training in lines for people to read."""

from __future__ import annotations

import sys
import time
from collections import deque
from statistics import fmean
from typing import TextIO

from detectron2.engine import HookBase
from detectron2.utils import comm

SMOOTHED = 20  # iterations; the median of their losses is shown
RECENT = 100  # iterations; the time left is that of their mean
MAX_SILENCE = 30.0  # seconds between two lines, if iterations do not take longer


class ProgressPrinter(HookBase):
    """Prints the iteration, the loss, the time elapsed and the time left, and when evaluation starts.

    Only the main process prints. The time left is that of as many iterations as there are left, as long as the recent
    ones were, so that it follows the load of the machine; it contains neither the first iteration, which prepares what
    the others find, nor evaluations. It must run before Detectron2's hooks, as those given to
    :class:`~centermask_solo.training.trainer.Trainer` do.
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
        self._start = self._last_step = self._last_line = 0.0
        self._evaluated = False  # since the last step

    def before_train(self) -> None:
        self._start = self._last_step = time.perf_counter()

    def after_step(self) -> None:
        if not comm.is_main_process():
            return
        trainer, now = self.trainer, time.perf_counter()
        done = trainer.iter + 1
        is_first = trainer.iter == trainer.start_iter
        if not is_first and not self._evaluated:
            self._recent.append(now - self._last_step)
        self._last_step = now
        is_due = done % self._period == 0 or now - self._last_line > MAX_SILENCE
        if is_first or is_due or done == trainer.max_iter:
            loss = trainer.storage.history("total_loss").median(SMOOTHED)
            rate = fmean(self._recent) if self._recent else now - self._start
            self._print(progress_line(done, trainer.max_iter, loss, now - self._start, rate))
            self._last_line = now
        period = trainer.cfg.TEST.EVAL_PERIOD
        is_evaluation_due = done == trainer.max_iter or (period > 0 and done % period == 0)
        self._evaluated = bool(trainer.cfg.DATASETS.TEST) and is_evaluation_due
        if self._evaluated:
            self._print(f"evaluating on {', '.join(trainer.cfg.DATASETS.TEST)}")

    def _print(self, line: str) -> None:
        print(self._indent + line, file=self._file, flush=True)


def progress_line(done: int, max_iter: int, loss: float, elapsed: float, per_iteration: float) -> str:
    """Return such as "iteration   20 of 400   loss  3.524   1 min 15 s elapsed, 23 min 45 s left".

    Args:
        done: Iterations done so far.
        max_iter: Iterations of the whole training.
        loss: Value to show.
        elapsed: Seconds since the start.
        per_iteration: Seconds that an iteration takes.
    """
    width = len(str(max_iter))
    line = f"iteration {done:{width}d} of {max_iter}   loss {loss:6.3f}   {format_seconds(elapsed)} elapsed"
    left = (max_iter - done) * per_iteration
    return f"{line}, {format_seconds(left)} left" if done < max_iter else line


def format_seconds(seconds: float) -> str:
    """Return such as "7 min 05 s" or "2 h 07 min"."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
