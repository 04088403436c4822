"""Processes that begin with everything imported, which takes several seconds each otherwise.

A server of ``multiprocessing``, which every pytest worker starts when a test needs it, forks them. It computes nothing
itself, because PyTorch cannot train in a process forked from one that has.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing.spawn import start_processes

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["benchmarks.system_run", "centermask_solo.training.evaluate", "tests.training.killing"])


def start_program(program: str, arguments: Sequence[str], log: Path) -> BaseProcess:
    """Start a program in a session of its own, on one core and no GPU; what it prints goes to ``log``.

    Args:
        program: The path of its file, or the name of a module.
        arguments: What follows in ``sys.argv``.
        log: File to write.
    """
    process = CONTEXT.Process(target=_run_program, args=(program, arguments, log, dict(os.environ), os.getcwd()))
    process.start()
    return process


def _run_program(program: str, arguments: Sequence[str], log: Path, environment: dict[str, str], folder: str) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ.update(environment, CUDA_VISIBLE_DEVICES="")
    torch.set_num_threads(1)
    with log.open("w") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    sys.argv = [program, *arguments]
    if program.endswith(".py"):
        runpy.run_path(program, run_name="__main__")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)


def launch_forked(function: Callable[..., Any], args: tuple[Any, ...] = (), **options: Any) -> Any:
    """Stand in for ``torch.multiprocessing.start_processes``, whose processes import everything themselves."""
    return start_processes(_InEnvironment(function), args, **options, start_method="forkserver")


class _InEnvironment:
    """A function with the environment of the process that asks for it, not of the server."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.environment = function, dict(os.environ)

    def __call__(self, *args: Any) -> None:
        os.environ.update(self.environment)
        self.function(*args)
