"""Start one process per GPU, or several on the CPU, and report an error that occurs in all of them once."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import detectron2.engine
import torch
from detectron2.utils import comm
from torch.multiprocessing import ProcessExitedException

from ..utils.errors import EXIT_CODE, ConfigError, UserError, as_user_error, report
from ..utils.text import counted

VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
MAX_PROCESSES = 16  # on the CPU, if it has fewer cores
# Most errors occur in all processes at once. The main one reports, and its end terminates the others before they do; it
# lingers until they have hung up, because they would fail in another way without what it serves to them.
SECONDS_FOR_THE_MAIN_PROCESS = 30
SECONDS_FOR_THE_OTHERS = 3
SECONDS_BETWEEN_LOOKS = 0.05


def launch(main: Callable[[argparse.Namespace], Any], args: argparse.Namespace, *, on_cpu: bool = False) -> None:
    """Run ``main(args)`` in ``args.num_gpus`` processes on each machine with Detectron2's launcher.

    Without a usable GPU the processes run on the CPU, communicate over gloo and share its cores.

    Args:
        main: A function at the top level of a module.
        args: Arguments of Detectron2's ``default_argument_parser``.
        on_cpu: Whether they do so also on a machine with GPUs, which several processes then do not see.

    Raises:
        ConfigError: This machine has fewer GPUs.
        SystemExit: A process has reported a user error.
    """
    on_gpus = torch.cuda.is_available() and not on_cpu
    if on_gpus and args.num_gpus > torch.cuda.device_count():
        raise ConfigError(
            f"--num-gpus {args.num_gpus}: this machine has {counted(torch.cuda.device_count(), 'usable GPU')}"
        )
    if not on_gpus and args.num_gpus > max(MAX_PROCESSES, os.cpu_count() or 1):
        device = (
            "MODEL.DEVICE is cpu, and this machine has" if torch.cuda.is_available() else "this machine has no GPU and"
        )
        raise ConfigError(f"--num-gpus {args.num_gpus}: {device} {counted(os.cpu_count() or 1, 'core')}: give fewer")
    if args.machine_rank >= args.num_machines:
        raise ConfigError(f"--machine-rank {args.machine_rank}: give a number below --num-machines {args.num_machines}")
    if args.dist_url != "auto" and not args.dist_url.startswith(("tcp://", "file://", "env://")):
        raise ConfigError(f"--dist-url {args.dist_url}: give tcp://ADDRESS:PORT, or auto on a single machine")
    if args.num_gpus < 1:
        raise ConfigError(f"--num-gpus {args.num_gpus}: give 1 or more, even without a GPU")
    try:
        with _meeting_point(args) as url, _hidden_gpus() if on_cpu and args.num_gpus > 1 else nullcontext():
            detectron2.engine.launch(
                _Main(main, args.num_gpus),
                args.num_gpus,
                num_machines=args.num_machines,
                machine_rank=args.machine_rank,
                dist_url=url,
                args=(args,),
            )
    except ProcessExitedException as error:
        if error.exit_code == EXIT_CODE:
            raise SystemExit(EXIT_CODE) from None
        raise


@contextmanager
def _meeting_point(args: argparse.Namespace) -> Iterator[str]:
    """Give the URL at which the processes meet; those of one machine use a private file and the loopback interface.

    PyTorch's own server listens at every address of the machine, whatever address the URL has.
    """
    local = args.dist_url == "auto" or urlparse(args.dist_url).hostname in ("127.0.0.1", "localhost", "::1")
    if args.num_machines > 1 or not local:
        yield args.dist_url
        return
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")
    added = {name: loopback for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME") if name not in os.environ}
    os.environ.update(added)
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder, "meeting").as_uri()
    finally:
        for name in added:
            del os.environ[name]


@contextmanager
def _hidden_gpus() -> Iterator[None]:
    """Let processes that start inside see no GPU: Detectron2's launcher would use them wherever there are any."""
    before = os.environ.get(VISIBLE_GPUS)
    os.environ[VISIBLE_GPUS] = ""
    try:
        yield
    finally:
        del os.environ[VISIBLE_GPUS]
        os.environ.update({} if before is None else {VISIBLE_GPUS: before})


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
