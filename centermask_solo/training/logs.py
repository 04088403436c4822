"""Log setup of a run, on the screen or in its file alone."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from ..utils.errors import escape_unencodable
from ..utils.files import make_folder

LOGGERS = ("detectron2", "fvcore", "centermask_solo")


def set_up_run(cfg: CfgNode, args: argparse.Namespace, *, on_screen: bool = True) -> None:
    """Call Detectron2's ``default_setup``, and set up the log of this package like Detectron2's own.

    Args:
        cfg: Config of the run; the log goes to ``log.txt`` in its ``OUTPUT_DIR``.
        args: Arguments to be logged.
        on_screen: Whether the log is also printed.
    """
    stream = sys.stdout if on_screen else io.StringIO()
    with contextlib.redirect_stdout(stream):
        default_setup(cfg, args)
        setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="centermask_solo")
    for handler in (x for name in LOGGERS for x in logging.getLogger(name).handlers):
        escape_unencodable(getattr(handler, "stream", None))
    if not on_screen:
        for logger in map(logging.getLogger, LOGGERS):
            logger.handlers = [x for x in logger.handlers if getattr(x, "stream", None) is not stream]


@contextmanager
def held_back_log() -> Iterator[None]:
    """Hold back what this package logs until the context ends, within which :func:`set_up_run` sets up the log."""
    logger = logging.getLogger("centermask_solo")
    level, propagate, handlers = logger.level, logger.propagate, logger.handlers
    held = _RecordList()
    logger.handlers, logger.propagate = [held], False
    logger.setLevel(logging.DEBUG)
    try:
        yield
    except BaseException:
        logger.setLevel(level)
        logger.propagate = propagate
        raise
    finally:
        logger.handlers = [*handlers, *(x for x in logger.handlers if x is not held and x not in handlers)]
        for record in held.records:
            if record.levelno >= logger.getEffectiveLevel():
                logger.handle(record)


class _RecordList(logging.Handler):
    """Keeps log records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextmanager
def output_in_log(output_dir: str) -> Iterator[None]:
    """Append everything printed in the context to ``log.txt``, and ignore warnings; restore the loggers afterwards."""
    make_folder(output_dir)
    loggers = [logging.getLogger(name) for name in (*LOGGERS, "torch")]
    states = [(logger.level, logger.propagate, logger.handlers) for logger in loggers]
    for logger in loggers:
        logger.handlers = []
    loggers[-1].addHandler(logging.NullHandler())  # or else its warnings would go to standard error
    setup_logger.cache_clear()  # or else a second run in the same folder would get no handler
    try:
        with (
            open(os.path.join(output_dir, "log.txt"), "a", encoding="utf-8") as file,
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
