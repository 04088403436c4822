"""``centermask-solo data merge``: put several datasets together."""

from __future__ import annotations

import argparse
import json

from ...utils.text import counted
from ..options import add_output_arguments


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the parser of this action and return it."""
    parser = subparsers.add_parser(
        "merge",
        help="put several datasets together",
        description="Write one json with the content of several: classes by their names, ids numbered from 1.",
        epilog="example: centermask-solo data merge may.json june.json --images may/ june/ --output birds.json",
    )
    parser.add_argument("json_files", nargs="+", metavar="JSON", help="annotations in COCO format")
    parser.add_argument(
        "--images",
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="folder of the images of each file, or one of all; names become relative to the folder that they share",
    )
    parser.add_argument("--output", required=True, metavar="JSON", help="the file to write")
    parser.add_argument(
        "--join", action="store_true", help="an image that is in several files becomes one, with the objects of all"
    )
    add_output_arguments(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Merge the datasets, and print a summary."""
    from ...data.tools.merge import merge_datasets

    found = merge_datasets(args.json_files, args.output, args.images, join=args.join, overwrite=args.overwrite)
    if args.json:
        print(json.dumps(found._asdict()))
        return
    print(
        f"{found.file}: {counted(found.images, 'image')}, {counted(found.objects, 'object')}, "
        f"{counted(len(found.classes), 'class')}"
    )
    if found.image_root:
        print(f"the images are below {found.image_root}")
