"""The command ``centermask-solo``: one module per subcommand, each with ``add_parser`` and ``run``.

These modules import what they run only in ``run``, so that ``--help`` loads neither PyTorch nor Detectron2.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ..utils.errors import reported_errors
from . import check_dataset, compare, config, demo, models, predict, train, weights

SUBCOMMANDS = (train, predict, compare, demo, check_dataset, models, weights, config)


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
    with reported_errors():
        args.run(args)
