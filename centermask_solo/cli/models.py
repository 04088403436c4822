"""``centermask-solo models``: the published models, their figures, and where their weights are."""

from __future__ import annotations

import argparse
import json

from ..model_zoo import list_models
from ..model_zoo.tables import markdown, plain_table, records


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """The parser of this subcommand."""
    parser = subparsers.add_parser("models", help="the published models, their figures and their weights")
    systems = list(dict.fromkeys(model.system for model in list_models()))
    parser.add_argument("--system", choices=systems, help="only the models of this one")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="everything that is known of them, as JSON")
    form.add_argument("--markdown", action="store_true", help="the text of MODEL_ZOO.md, which has all systems")
    return parser


def run(args: argparse.Namespace) -> None:
    """Print."""
    models = list_models(args.system)
    if args.markdown:
        print(markdown(), end="")
    elif args.json:
        print(json.dumps(records(models), indent=2))
    else:
        print(plain_table(models))
