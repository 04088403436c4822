"""``centermask-solo weights``: inspect a weight file, convert it to one of this package, or upload it."""

from __future__ import annotations

import argparse
import json

from ..utils.text import counted


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the parser of this subcommand and return it."""
    parser = subparsers.add_parser("weights", help="inspect, convert or upload a weight file")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    inspect = actions.add_parser(
        "inspect",
        help="print source, system, backbone, classes, images and config",
        epilog="example: centermask-solo weights inspect model_final.pth",
    )
    inspect.add_argument(
        "file", metavar="FILE", help="file of any known source, or centermask_solo:// and the name of a config"
    )
    inspect.add_argument("--json", action="store_true", help="print JSON")
    inspect.set_defaults(action=_inspect)
    convert = actions.add_parser(
        "convert",
        help="write a file that prediction needs nothing else for: with class names and config",
        epilog="example: centermask-solo weights convert SOLOv2_R50_3x.pth solov2.safetensors --classes names.txt",
    )
    convert.add_argument("file", metavar="IN", help="weights of a detector, as for inspect")
    convert.add_argument("target", metavar="OUT", help="file to write: .pth or .safetensors")
    convert.add_argument(
        "--config-file", default="", metavar="FILE", help="config of the weights (default: the one that inspect prints)"
    )
    convert.add_argument(
        "--classes",
        nargs="+",
        metavar="NAME",
        help="names of the classes in order, or a file with them: .txt with one name per line, or .json with a list or "
        "in COCO format (default: those inside the file; COCO's if there are 80)",
    )
    convert.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    convert.set_defaults(action=_convert)
    push = actions.add_parser(
        "push",
        help="upload weights to the Hugging Face Hub, with a model card",
        epilog="example: centermask-solo weights push model_final.pth OWNER/NAME --license apache-2.0",
    )
    push.add_argument("file", metavar="FILE", help="weights of a detector, as for inspect")
    push.add_argument("repo", metavar="OWNER/NAME", help="repository, which is made if there is none")
    push.add_argument("--config-file", default="", metavar="FILE", help="config of the weights, as for convert")
    push.add_argument("--license", default="", metavar="NAME", help="license of the weights, such as apache-2.0")
    push.add_argument("--private", action="store_true", help="make a new repository private")
    push.set_defaults(action=_push)
    return parser


def run(args: argparse.Namespace) -> None:
    """Inspect, convert or upload a file."""
    args.action(args)


def _inspect(args: argparse.Namespace) -> None:
    from ..model_zoo.inspection import format_inspection, inspect_weights

    found = inspect_weights(args.file)
    print(json.dumps(found, indent=2) if args.json else format_inspection(found))


def _push(args: argparse.Namespace) -> None:
    from ..model_zoo.hub import push_to_hub

    options = {"config_file": args.config_file, "license": args.license, "private": args.private}
    print(push_to_hub(args.file, args.repo, **options))


def _convert(args: argparse.Namespace) -> None:
    from ..data.class_names import read_class_names
    from ..model_zoo.conversion import convert_weights

    names = args.classes and read_class_names(args.classes)
    done = convert_weights(
        args.file,
        args.target,
        config_file=args.config_file,
        thing_classes=names,
        overwrite=args.overwrite,
    )
    classes = "no class names (give them with --classes)"
    if done.thing_classes:
        classes = (
            f"{counted(len(done.thing_classes), 'class')} from '{done.thing_classes[0]}' to '{done.thing_classes[-1]}'"
        )
    print(f"{args.target}: {counted(done.num_entries, 'parameter')} of {done.source}, {classes}; config: {done.config}")
    if done.left_out:
        print(f"left out, because the config does not build it: {', '.join(done.left_out)}")
