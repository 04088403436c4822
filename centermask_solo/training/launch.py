"""Start one process per GPU, or several on the CPU, and report an error that occurs in all of them once."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import detectron2.engine
import torch
from detectron2.utils import comm
from torch.multiprocessing import ProcessExitedException

from ..utils.errors import EXIT_CODE, ConfigError, UserError, as_user_error, report

# Most errors occur in all processes at once. The main one reports, and its end terminates the others before they do; it
# lingers until they have hung up, because they would fail in another way without what it serves to them.
SECONDS_FOR_THE_MAIN_PROCESS = 30
SECONDS_FOR_THE_OTHERS = 3
SECONDS_BETWEEN_LOOKS = 0.05


def launch(main: Callable[[argparse.Namespace], Any], args: argparse.Namespace) -> None:
    """Run ``main(args)`` in ``args.num_gpus`` processes on each machine with Detectron2's launcher.

    Without a usable GPU the processes run on the CPU, communicate over gloo and share its cores.

    Args:
        main: A function at the top level of a module.
        args: Arguments of Detectron2's ``default_argument_parser``.

    Raises:
        ConfigError: This machine has fewer GPUs.
        SystemExit: A process has reported a user error.
    """
    if torch.cuda.is_available() and args.num_gpus > torch.cuda.device_count():
        raise ConfigError(f"--num-gpus {args.num_gpus}: this machine has {torch.cuda.device_count()} usable GPUs")
    if args.num_gpus < 1:
        raise ConfigError(f"--num-gpus {args.num_gpus}: give 1 or more, even without a GPU")
    try:
        detectron2.engine.launch(
            _Main(main, args.num_gpus),
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args,),
        )
    except ProcessExitedException as error:
        if error.exit_code == EXIT_CODE:
            raise SystemExit(EXIT_CODE) from None
        raise


class _Main:
    """What each process runs. A spawned process ends when its parent does, even if the parent is killed."""

    def __init__(self, main: Callable[[argparse.Namespace], Any], num_processes: int) -> None:
        self._main, self._num_processes = main, num_processes

    def __call__(self, args: argparse.Namespace) -> None:
        if self._num_processes > 1 and not torch.cuda.is_available() and "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // self._num_processes))
        self._main(args)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Watch the parent from the start: processes may wait half an hour for each other."""
        self.__dict__ = state
        threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process once the one that started it has ended, even if it was killed.

    PyTorch asks Linux for an interrupt then, but a process that is still starting misses it, as does one that waits for
    another in C++.
    """
    while (parent := multiprocessing.parent_process()) is None:  # it is known a moment after the process's arguments
        time.sleep(SECONDS_BETWEEN_LOOKS)
    parent.join()
    os._exit(EXIT_CODE)


@contextmanager
def reported_once() -> Iterator[None]:
    """Report a :class:`UserError` raised inside, once for all processes, and exit with code 2."""
    try:
        yield
    except (UserError, OSError) as error:
        reported = as_user_error(error)
        if reported is None:
            raise
        if not comm.is_main_process():
            time.sleep(SECONDS_FOR_THE_MAIN_PROCESS)
        report(reported)
        if comm.get_world_size() > 1:
            time.sleep(SECONDS_FOR_THE_OTHERS)
        raise SystemExit(EXIT_CODE) from None
