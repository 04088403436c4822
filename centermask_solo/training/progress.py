"""Progress of a training in lines for people to read."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from detectron2.engine import HookBase

SMOOTHED = 20  # iterations; the median of their losses is shown


class ProgressPrinter(HookBase):
    """Prints the iteration, the loss, the time elapsed and the time left, and when evaluation starts.

    It must run before Detectron2's hooks, as those given to :class:`~centermask_solo.training.trainer.Trainer` do.
    """

    def __init__(self, period: int = 20, file: TextIO | None = None) -> None:
        """
        Args:
            period: Iterations between two lines; the last iteration has a line in any case.
            file: Where the lines go (default: standard output, as it is now).
        """
        self._period = period
        self._file = file or sys.stdout
        self._start = 0.0

    def before_train(self) -> None:
        self._start = time.perf_counter()

    def after_step(self) -> None:
        trainer = self.trainer
        done = trainer.iter + 1
        if done % self._period == 0 or done == trainer.max_iter:
            loss = trainer.storage.history("total_loss").median(SMOOTHED)
            seconds = time.perf_counter() - self._start
            line = progress_line(done, trainer.max_iter, loss, seconds, done - trainer.start_iter)
            print(f"     {line}", file=self._file, flush=True)
        period = trainer.cfg.TEST.EVAL_PERIOD
        if trainer.cfg.DATASETS.TEST and (done == trainer.max_iter or (period > 0 and done % period == 0)):
            print(f"     evaluating on {', '.join(trainer.cfg.DATASETS.TEST)}", file=self._file, flush=True)


def progress_line(done: int, max_iter: int, loss: float, seconds: float, timed: int) -> str:
    """Return such as "iteration   20 of 400   loss  3.524   1 min 15 s elapsed, 23 min 45 s left".

    Args:
        done: Iterations done so far.
        max_iter: Iterations of the whole training.
        loss: Value to show.
        seconds: Time elapsed.
        timed: Iterations done in this time.
    """
    width = len(str(max_iter))
    line = f"iteration {done:{width}d} of {max_iter}   loss {loss:6.3f}   {format_seconds(seconds)} elapsed"
    left = (max_iter - done) * seconds / timed
    return f"{line}, {format_seconds(left)} left" if done < max_iter else line


def format_seconds(seconds: float) -> str:
    """Return such as "7 min 05 s" or "2 h 07 min"."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
