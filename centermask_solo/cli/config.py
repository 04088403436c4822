"""``centermask-solo config``: show a config, convert one with old option names, or print the reference of options."""

from __future__ import annotations

import argparse

from ..utils.text import counted


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the parser of this subcommand and return it."""
    parser = subparsers.add_parser("config", help="show or convert a config file")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    show = actions.add_parser(
        "show",
        help="print all options of a config",
        epilog="example: centermask-solo config show SOLOv2/solov2_R_50_3x.yaml --diff",
    )
    show.add_argument("--diff", action="store_true", help="print only what differs from the defaults")
    show.add_argument("file", metavar="FILE", help="path of a config file, or its name in configs/")
    show.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config options to change")
    show.set_defaults(action=_show)
    convert = actions.add_parser(
        "convert",
        help="rewrite a config of AdelaiDet, CenterMask2 or an earlier version",
        epilog="example: centermask-solo config convert mine.yaml new.yaml",
    )
    convert.add_argument("file", metavar="IN", help="config file; its _BASE_ files are merged into the new one")
    convert.add_argument("target", metavar="OUT", help="config file to write")
    convert.add_argument("--drop-unknown", action="store_true", help="leave out unknown options instead of failing")
    convert.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    convert.set_defaults(action=_convert)
    docs = actions.add_parser(
        "docs",
        help="print the reference of all options, docs/configuration.md",
        epilog="example: centermask-solo config docs > docs/configuration.md",
    )
    docs.set_defaults(action=_print_reference)
    return parser


def run(args: argparse.Namespace) -> None:
    """Run the action."""
    args.action(args)


def _show(args: argparse.Namespace) -> None:

    from ..config import default_config, merge_config
    from ..config.trees import flatten, to_yaml

    cfg = default_config()
    defaults = flatten(cfg)
    opts = [x for x in args.opts if x != "--diff"]  # argparse counts flags after FILE among the overrides
    merge_config(cfg, args.file, opts)
    options = flatten(cfg)
    if args.diff or len(opts) < len(args.opts):
        options = {key: value for key, value in options.items() if value != defaults[key]}
    print(to_yaml(options), end="")


def _convert(args: argparse.Namespace) -> None:
    from ..config.conversion import convert_file

    done = convert_file(args.file, args.target, drop_unknown=args.drop_unknown, overwrite=args.overwrite)
    for change in done.changes:
        print(change)
    for key in done.unknown:
        print(f"dropped {key}: unknown option")
    print(f"{args.target}: {counted(len(done.options), 'option')}, {counted(len(done.changes), 'change')}")


def _print_reference(args: argparse.Namespace) -> None:
    from ..config.reference import configuration_page

    print(configuration_page(), end="")
