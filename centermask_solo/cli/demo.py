"""``centermask-solo demo``: train, evaluate and draw a small model within minutes."""

from __future__ import annotations

import argparse

from .options import add_overrides


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the parser of this subcommand and return it."""
    parser = subparsers.add_parser(
        "demo",
        help="train a small model on generated images and draw what it finds",
        epilog="example: centermask-solo demo --model yolact SOLVER.MAX_ITER 400",
    )
    parser.add_argument(
        "--model", default="", help="one of the configs in configs/shapes, without _shapes.yaml (default: solov2)"
    )
    parser.add_argument("--output", default="", metavar="FOLDER", help="default: output/demo_<model>")
    parser.add_argument("--overwrite", action="store_true", help="replace the training in FOLDER, if any")
    add_overrides(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Run the demo."""
    from ..demo import run_demo

    run_demo(args.model, args.output, args.opts, overwrite=args.overwrite)
