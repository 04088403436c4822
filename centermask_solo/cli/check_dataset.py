"""``centermask-solo check-dataset``: the name that ``centermask-solo data check`` had first."""

from __future__ import annotations

import argparse

from .data import check


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the parser of this subcommand and return it."""
    return check.add_parser(subparsers, "check-dataset", "the same as data check")


run = check.run
