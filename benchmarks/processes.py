"""Measure time and peak memory of functions, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from centermask_solo.utils.memory import forget_highest, highest_resident_bytes, resident_bytes

MB = 10**6


class Cost(NamedTuple):
    """What a stage took.

    Attributes:
        wall_s: Seconds.
        cpu_s: Seconds of one core, of this process; meaningful on a busy machine, too.
        before_mb: Memory of the process before the stage.
        peak_mb: Its highest memory during the stage.
        after_mb: Its memory after the stage.
    """

    wall_s: float
    cpu_s: float
    before_mb: float
    peak_mb: float
    after_mb: float

    def summary(self) -> dict[str, float]:
        """Return rounded figures, with the peak beyond the memory before."""
        added = self.peak_mb - self.before_mb
        return {"wall_s": round(self.wall_s, 2), "cpu_s": round(self.cpu_s, 2), "added_mb": round(added)}


def cost(stage: Callable[[], Any]) -> tuple[Any, Cost]:
    """Return the result of a stage and what it took."""
    forget_highest()
    before, wall, cpu = resident_bytes(), time.perf_counter(), time.process_time()
    result = stage()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return result, Cost(wall, cpu, *(x / MB for x in (before, highest_resident_bytes(), resident_bytes())))


def in_own_process(
    function: Callable[..., dict[str, Any]], *args: Any, timeout: float | None = None, start: str = "spawn"
) -> dict[str, Any]:
    """Return what a module's function returns in a process that has run nothing else, with one thread.

    Args:
        function: The function.
        *args: Its arguments.
        timeout: Seconds after which the process is ended; None for no limit.
        start: How it is started: "forkserver" saves the time of imports that :mod:`multiprocessing` was told of, but
            not their memory.

    Raises:
        multiprocessing.TimeoutError: The function has not returned by then.
    """
    with multiprocessing.get_context(start).Pool(1, torch.set_num_threads, (1,)) as pool:
        return pool.apply_async(function, args).get(timeout)
