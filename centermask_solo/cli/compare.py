"""``centermask-solo compare``: draw images of a dataset next to their ground truth and predictions."""

from __future__ import annotations

import argparse

from ..utils.rules import COUNT, argument
from .options import add_color_argument, add_overrides, add_weights_arguments, load_cfg


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the parser of this subcommand and return it."""
    parser = subparsers.add_parser(
        "compare",
        help="draw images next to their ground truth and predictions",
        epilog="example: centermask-solo compare --weights model_final.pth --count 8 --output sheet.png",
    )
    add_weights_arguments(parser)
    parser.add_argument("--output", required=True, metavar="FILE", help="the picture to write (.png or .jpg)")
    parser.add_argument(
        "--count", type=argument(COUNT), default=12, help="number of images of DATASETS.TEST (default: 12)"
    )
    add_color_argument(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace the picture if it exists")
    add_overrides(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Draw the picture and print its path."""
    from ..inference.comparison import compare_with_ground_truth

    path = compare_with_ground_truth(
        load_cfg(args), args.output, args.count, args.score_threshold, args.color_by, overwrite=args.overwrite
    )
    print(path)
