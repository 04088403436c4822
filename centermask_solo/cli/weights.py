"""``centermask-solo weights``: what a weight file is, and weights of others as a file of this package."""

from __future__ import annotations

import argparse
import json

from detectron2.config import get_cfg

from ..config import add_centermask_solo_config
from ..data.class_names import read_class_names
from ..model_zoo.conversion import convert_weights
from ..model_zoo.inspection import format_inspection, inspect_weights


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """The parser of this subcommand."""
    parser = subparsers.add_parser("weights", help="tell what a weight file is, or convert it")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    inspect = actions.add_parser("inspect", help="source, system, backbone, classes, images and config of a file")
    inspect.add_argument("file", metavar="FILE", help="of any known source, or centermask_solo:// and a config's name")
    inspect.add_argument("--json", action="store_true", help="the same as JSON")
    inspect.set_defaults(action=_inspect)
    convert = actions.add_parser("convert", help="write a file that predicts by itself: with class names and config")
    convert.add_argument("file", metavar="IN", help="weights of a detector, as for inspect")
    convert.add_argument("target", metavar="OUT", help="the file to write: .pth")
    convert.add_argument("--config-file", default="", metavar="FILE", help="default: the config that inspect tells")
    convert.add_argument(
        "--classes",
        nargs="+",
        metavar="NAME",
        help="names of the classes in order, or a file of them: .txt with a name on each line, or .json with a list or "
        "in COCO format (default: those inside the file; COCO's, if it has 80)",
    )
    convert.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    convert.set_defaults(action=_convert)
    return parser


def run(args: argparse.Namespace) -> None:
    """Inspect or convert."""
    args.action(args)


def _inspect(args: argparse.Namespace) -> None:
    found = inspect_weights(args.file)
    print(json.dumps(found, indent=2) if args.json else format_inspection(found))


def _convert(args: argparse.Namespace) -> None:
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    names = args.classes and read_class_names(args.classes)
    done = convert_weights(
        args.file,
        args.target,
        cfg,
        config_file=args.config_file,
        thing_classes=names,
        overwrite=args.overwrite,
    )
    classes = "no class names, which --classes gives"
    if done.thing_classes:
        classes = f"{len(done.thing_classes)} classes from '{done.thing_classes[0]}' to '{done.thing_classes[-1]}'"
    print(f"{args.target}: {done.num_entries} parameters of {done.source}, {classes}, and the config {done.config}")
    if done.left_out:
        print(f"left out, because this config does not build it: {', '.join(done.left_out)}")
