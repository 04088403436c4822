"""The command ``centermask-solo``: one module per subcommand, each with ``add_parser`` and ``run``.

These modules import what they run only in ``run``, so that ``--help`` loads neither PyTorch nor Detectron2.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from ..utils.errors import WarningFormatter, reported_errors
from ..utils.quiet import hide_foreign_warnings
from . import (
    analyze,
    benchmark,
    calibrate,
    check_dataset,
    compare,
    config,
    data,
    demo,
    evaluate,
    export,
    models,
    predict,
    train,
    weights,
)

EXIT_CLOSED_PIPE = 141  # as a shell reports a program that SIGPIPE ended
SUBCOMMANDS = (
    train,
    predict,
    compare,
    evaluate,
    analyze,
    export,
    demo,
    benchmark,
    calibrate,
    data,
    check_dataset,
    models,
    weights,
    config,
)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all subcommands; what it parses has the subcommand's ``run``."""
    parser = argparse.ArgumentParser(prog="centermask-solo", description="Fast instance segmentation on Detectron2")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in SUBCOMMANDS:
        module.add_parser(subparsers).set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the subcommand that ``argv`` names (default: the command line of the process)."""
    args = build_parser().parse_args(argv)
    hide_foreign_warnings()
    if logging.lastResort:  # which prints warnings of commands that set up no log
        logging.lastResort.setFormatter(WarningFormatter())
    try:
        with reported_errors():
            args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        if not _stdout_is_closed():
            raise
        raise SystemExit(EXIT_CLOSED_PIPE) from None


def _stdout_is_closed() -> bool:
    """Return whether the reader of the output, such as ``head``, has gone; if so, discard what is left of it."""
    try:
        print(flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more when it exits
        return True
    return False
