"""``centermask-solo data subset``: take a part of a dataset."""

from __future__ import annotations

import argparse
import json

from ...utils.rules import COUNT, argument, integer
from ...utils.text import counted
from ..options import add_output_arguments, names


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the parser of this action and return it."""
    parser = subparsers.add_parser(
        "subset",
        help="take some classes or images of a dataset",
        description="Write a json with a part of a dataset. Images stay where they are.",
        epilog="example: centermask-solo data subset birds.json --output jays.json --classes jay --min-objects 1",
    )
    parser.add_argument("json_file", metavar="JSON", help="annotations in COCO format")
    parser.add_argument("--output", required=True, metavar="JSON", help="the file to write")
    parser.add_argument(
        "--classes", type=names, default=[], metavar="NAME,NAME", help="classes that remain (default: all)"
    )
    parser.add_argument("--images", default="", metavar="PATTERN", help="images that may remain, such as 'night/*.jpg'")
    parser.add_argument(
        "--min-objects",
        type=argument(integer(0)),
        default=0,
        metavar="N",
        help="leave out images with fewer objects of these classes, crowds not counted (default: 0)",
    )
    parser.add_argument("--count", type=argument(COUNT), metavar="N", help="number of images, at random (default: all)")
    parser.add_argument(
        "--seed",
        type=argument(integer(0)),
        default=0,
        metavar="N",
        help="the same seed chooses the same images (default: 0)",
    )
    add_output_arguments(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Take the part, and print what remains."""
    from ...data.tools.subset import subset_dataset

    found = subset_dataset(
        args.json_file,
        args.output,
        classes=args.classes,
        pattern=args.images,
        min_objects=args.min_objects,
        count=args.count,
        seed=args.seed,
        overwrite=args.overwrite,
    )
    if args.json:
        print(json.dumps(found._asdict()))
    else:
        print(f"{found.file}: {counted(found.images, 'image')}, {counted(found.objects, 'object')}")
