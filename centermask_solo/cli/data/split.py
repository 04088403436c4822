"""``centermask-solo data split``: divide a dataset into parts with the same share of every class."""

from __future__ import annotations

import argparse
import json
import math

from ...utils.errors import ConfigError
from ...utils.rules import argument, integer
from ...utils.text import counted
from ..options import add_output_arguments


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the parser of this action and return it."""
    parser = subparsers.add_parser(
        "split",
        help="divide a dataset into parts with the same share of every class",
        description="Write a json for each part of a dataset. Images stay where they are.",
        epilog="example: centermask-solo data split birds.json --output splits/ --ratios train=0.8 val=0.2 "
        "--group-by folder",
    )
    parser.add_argument("json_file", metavar="JSON", help="annotations in COCO format")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="where the parts go, such as train.json")
    parser.add_argument(
        "--ratios",
        nargs="+",
        type=_ratio,
        default=[("train", 0.8), ("val", 0.2)],
        metavar="NAME=SHARE",
        help="the parts and their shares of the images, in any unit (default: train=0.8 val=0.2)",
    )
    parser.add_argument(
        "--seed",
        type=argument(integer(0)),
        default=0,
        metavar="N",
        help="the same seed makes the same parts (default: 0)",
    )
    parser.add_argument(
        "--group-by",
        default="",
        metavar="HOW",
        help='what must stay together: "folder", or a regular expression whose first group is the same in the paths, '
        "such as '(video_\\d+)'",
    )
    add_output_arguments(parser)
    return parser


def _ratio(text: str) -> tuple[str, float]:
    name, _, share = text.partition("=")
    try:
        value = float(share)
    except ValueError:
        value = math.nan
    if not name or "/" in name or not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a name and a share above 0 such as train=0.8, not {text!r}")
    return name, value


def _ratios(pairs: list[tuple[str, float]]) -> dict[str, float]:
    ratios = dict(pairs)
    if len(ratios) < len(pairs):
        raise ConfigError("--ratios names a part twice: give each a name of its own")
    return ratios


def run(args: argparse.Namespace) -> None:
    """Divide the dataset, and print what is in each part."""
    from ...data.tools.split import split_dataset

    parts = split_dataset(
        args.json_file,
        args.output,
        _ratios(args.ratios),
        seed=args.seed,
        group_by=args.group_by,
        overwrite=args.overwrite,
    )
    if args.json:
        print(json.dumps({name: x._asdict() for name, x in parts.items()}))
        return
    for x in parts.values():
        print(f"{x.file}: {counted(x.images, 'image')}, {counted(x.objects, 'object')}")
        absent = [name for name, count in x.objects_of_class.items() if not count]
        if absent:
            print(f"  without objects: {', '.join(absent)}")
