"""``centermask-solo models``: the published models, their figures, and where their weights are."""

from __future__ import annotations

import argparse
import json

from ..model_zoo.models import list_models


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the parser of this subcommand and return it."""
    parser = subparsers.add_parser(
        "models",
        help="list the published models, their figures and their weights",
        epilog="example: centermask-solo models --system CenterMask",
    )
    systems = list(dict.fromkeys(model.system for model in list_models()))
    parser.add_argument("--system", choices=systems, help="list only the models of this system")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print everything that is known of them as JSON")
    form.add_argument("--markdown", action="store_true", help="print the text of MODEL_ZOO.md, which has all systems")
    form.add_argument("--signatures", action="store_true", help="print the text of model_zoo/signatures.json")
    return parser


def run(args: argparse.Namespace) -> None:
    """Print the models."""
    from ..model_zoo.signatures import signatures_text
    from ..model_zoo.tables import markdown, plain_table, records

    if args.signatures:
        print(signatures_text(), end="")
    elif args.markdown:
        print(markdown(), end="")
    elif args.json:
        print(json.dumps(records(list_models(args.system)), indent=2))
    else:
        print(plain_table(list_models(args.system)))
