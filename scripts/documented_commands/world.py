"""The folder in which the commands of one page run, and how they are run there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .forks import client
from .pages import ROOT
from .rules import Plan
from .store import Store

TIMED_OUT = 124  # the exit code, as that of timeout(1)
PROGRAMS = {"python": [], "centermask-solo": ["-m", "centermask_solo.cli"]}


@dataclass(frozen=True)
class World:
    """A checkout with the files that a page takes for granted.

    Attributes:
        folder: The checkout.
        store: Where the files come from.
        socket: Of the process that runs programs in Python: forks.py.
    """

    folder: Path
    store: Store
    socket: Path

    def make(self, files: Mapping[str, str]) -> None:
        """Copy this checkout, without its tests, and ``files``, names in the world to names in the store."""
        shutil.rmtree(self.folder, ignore_errors=True)
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", ":!tests"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        for name in filter(None, listed.stdout.split("\0")):
            if (ROOT / name).is_file():
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, self.folder / name)
        for name, kept in files.items():
            target, source = self.folder / name, self.store.path(kept)
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            else:
                shutil.copyfile(source, target)
        for name, words in PROGRAMS.items():
            program = self.folder / ".venv" / "bin" / name
            program.parent.mkdir(parents=True, exist_ok=True)
            program.write_text(client(self.socket, words))
            program.chmod(0o755)

    def environment(self, number: int) -> dict[str, str]:
        """Return the environment of the command of a number: programs, package and data are those of the world."""
        return {
            **os.environ,
            "PATH": f"{self.folder / '.venv' / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder),
            "DETECTRON2_DATASETS": str(self.folder / "datasets"),
            "CENTERMASK_SOLO_WEIGHTS": str(self.folder / "zoo"),
            "NUMBER": str(number),
        }

    def run(self, plan: Plan, number: int, log: Path, timeout: float) -> tuple[int, float]:
        """Run a command; return its exit code and its seconds. What it prints goes to ``log``."""
        words = ["python", "-c", plan.text] if plan.command.language == "python" else ["bash", "-euc", plan.text]
        log.parent.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        with open(log, "w", encoding="utf-8") as file:
            print(f"$ {plan.text}\n", file=file, flush=True)
            process = subprocess.Popen(
                words,
                cwd=self.folder,
                env=self.environment(number),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                preexec_fn=os.setpgrp,
            )
            try:
                code = process.wait(timeout)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # the shell, and what forks.py runs for it
                process.wait()
                code = TIMED_OUT
        return code, time.perf_counter() - start
