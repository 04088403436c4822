"""``centermask-solo data convert``: from one annotation format to another."""

from __future__ import annotations

import argparse
import json

from ...utils.text import counted
from ..options import add_output_arguments

FORMATS = "coco, labelme, yolo, voc, maps, cityscapes"


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the parser of this action and return it."""
    parser = subparsers.add_parser(
        "convert",
        help="convert annotations between formats",
        description=f"Convert a dataset between the formats {FORMATS}. What the format to write cannot hold is named, "
        "with counts, in one warning.",
        epilog="example: centermask-solo data convert --from labelme birds/ --to coco birds_coco/",
    )
    parser.add_argument(
        "--from",
        dest="source",
        nargs="+",
        required=True,
        metavar=("[FORMAT] PATH", "PATH"),
        help="the dataset: a folder, or COCO's json; its format is detected unless it is named first",
    )
    parser.add_argument(
        "--to", dest="target", nargs=2, required=True, metavar=("FORMAT", "FOLDER"), help="what to write, and where"
    )
    parser.add_argument(
        "--images", default="", metavar="FOLDER", help="folder of the images (default: as the format has it)"
    )
    parser.add_argument(
        "--class-names",
        nargs="+",
        metavar="NAME",
        help="names of the classes, in order, or a .txt or .json file with them, where the format has none",
    )
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--copy-images", action="store_true", help="copy the images to where the format has them, too")
    group.add_argument("--link-images", action="store_true", help="the same with symbolic links instead of copies")
    add_output_arguments(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Convert, and print a summary."""
    from ...data.class_names import read_class_names
    from ...data.tools.convert import convert_dataset
    from ...utils.errors import ConfigError

    if len(args.source) > 2:
        raise ConfigError(f"--from takes a format and a path, not {len(args.source)} values: quote paths with spaces")
    found = convert_dataset(
        args.source[-1],
        *args.target,
        source_format=args.source[0] if len(args.source) == 2 else "",
        image_root=args.images,
        class_names=read_class_names(args.class_names) if args.class_names else None,
        image_files="copy" if args.copy_images else "link" if args.link_images else "none",
        overwrite=args.overwrite,
    )
    if args.json:
        print(json.dumps(found._asdict()))
    else:
        print(
            f"{counted(found.images, 'image')}, {counted(found.objects, 'object')}, "
            f"{counted(len(found.classes), 'class')}: "
            f"{found.source_format} to {found.target_format}, in {found.output}"
        )
        print(f"the images are below {found.image_root}")
