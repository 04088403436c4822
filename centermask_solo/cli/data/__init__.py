"""``centermask-solo data``: look at datasets and change them, one module per action."""

from __future__ import annotations

import argparse

from . import browse, check, convert, merge, split, subset

ACTIONS = (check, browse, convert, split, merge, subset)


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the parser of this subcommand and return it."""
    parser = subparsers.add_parser("data", help="check datasets, look at them, convert and divide them")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    for module in ACTIONS:
        module.add_parser(actions).set_defaults(action=module.run)
    return parser


def run(args: argparse.Namespace) -> None:
    """Run the action."""
    args.action(args)
