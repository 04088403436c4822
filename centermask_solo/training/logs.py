"""Log setup of a run: everything in its file, and on the screen what people read."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import MemoryHandler
from typing import Literal

from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from ..utils.errors import WarningFormatter, escape_unencodable
from ..utils.files import make_folder, open_to_write

LOGGERS = ("detectron2", "fvcore", "centermask_solo")
NEVER = logging.CRITICAL + 1
REMAPPED = "Category ids in annotations are not in [1, #categories]"  # a warning of what is always allowed
EVALUATION = re.compile(r"Inference done (\d+)/(\d+)\..*ETA=(.+)")  # what Detectron2 logs
SECONDS_BETWEEN_PROGRESS = 30

# What of the log is also printed: all of it; this package's part and all warnings; or nothing.
Screen = Literal["everything", "summary", "nothing"]


def start_log(screen: Screen = "summary") -> MemoryHandler:
    """Print the log from now on, and return what keeps it for the file, whose folder only the config tells.

    What handled these loggers before, such as an earlier run of this process, no longer does.
    """
    setup_logger.cache_clear()  # or else it would ignore a folder that it knows
    handler = _SummaryHandler()
    memory = MemoryHandler(sys.maxsize, flushLevel=NEVER, flushOnClose=False)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = []
        setup_logger(distributed_rank=comm.get_rank(), name=name, configure_stdout=screen == "everything")
        if screen == "summary" and comm.is_main_process():
            logger.addHandler(handler)
        logger.addHandler(memory)
    return memory


def set_up_run(cfg: CfgNode, args: argparse.Namespace, memory: MemoryHandler) -> None:
    """Call Detectron2's ``default_setup``, and set up the log of this package like Detectron2's own.

    Args:
        cfg: Config of the run; the log goes to ``log.txt`` in its ``OUTPUT_DIR``.
        args: Arguments to be logged.
        memory: What :func:`start_log` returned.
    """
    loggers = [logging.getLogger(name) for name in LOGGERS]
    for logger in loggers:
        logger.removeHandler(memory)
    unseen = io.StringIO()  # instead of the screen, which already has its handlers
    with contextlib.redirect_stdout(unseen):
        setup_logger(cfg.OUTPUT_DIR, comm.get_rank(), name="centermask_solo")
        memory.setTarget(loggers[-1].handlers[-1])
        memory.flush()
        default_setup(cfg, args)
    for logger in loggers:
        logger.handlers = [x for x in logger.handlers if getattr(x, "stream", None) is not unseen]
        for handler in logger.handlers:
            escape_unencodable(getattr(handler, "stream", None))


class _SummaryHandler(logging.StreamHandler):
    """Prints what this package logs, warnings of others, and the progress of evaluations, without time and origin."""

    def __init__(self) -> None:
        super().__init__(sys.stdout)
        self.setFormatter(WarningFormatter())
        self._next_progress = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is printed."""
        if record.getMessage().strip().startswith(REMAPPED):
            return False
        if record.levelno >= logging.WARNING or record.name.startswith("centermask_solo."):
            return True
        if not EVALUATION.match(record.getMessage()) or record.created < self._next_progress:
            return False
        self._next_progress = record.created + SECONDS_BETWEEN_PROGRESS
        return True

    def format(self, record: logging.LogRecord) -> str:
        """Return the message; warnings begin like the errors of a command."""
        return EVALUATION.sub(r"evaluated \1 of \2 batches, \3 left", super().format(record))


class _LogWriter(io.TextIOBase):
    """A text file whose lines become records of a log."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger, self._rest = logger, ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in filter(str.strip, lines):
            self._logger.info(line)
        return len(text)


@contextmanager
def prints_in_log(logger: logging.Logger) -> Iterator[None]:
    """Log what is printed in the context, such as COCO's tables; print it if nothing handles the log."""
    if not logger.hasHandlers():
        yield
        return
    with contextlib.redirect_stdout(_LogWriter(logger)):
        yield


@contextmanager
def output_in_log(output_dir: str) -> Iterator[None]:
    """Append everything printed in the context to ``log.txt``, and ignore warnings; restore the loggers afterwards."""
    make_folder(output_dir)
    loggers = [logging.getLogger(name) for name in (*LOGGERS, "torch")]
    states = [(logger.level, logger.propagate, logger.handlers) for logger in loggers]
    for logger in loggers:
        logger.handlers = []
    loggers[-1].addHandler(logging.NullHandler())  # or else its warnings would go to standard error
    try:
        with (
            open_to_write(os.path.join(output_dir, "log.txt"), "a") as file,
            contextlib.redirect_stdout(file),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        setup_logger.cache_clear()
        for logger, (level, propagate, handlers) in zip(loggers, states, strict=True):
            logger.setLevel(level)
            logger.propagate, logger.handlers = propagate, handlers
