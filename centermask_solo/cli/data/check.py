"""``centermask-solo data check``: report what a dataset contains and what is wrong with it."""

from __future__ import annotations

import argparse
import json

from ...utils.errors import ConfigError
from ...utils.rules import argument, integer
from ..options import add_config_arguments, load_data_cfg

_EPILOG = """example:
  centermask-solo data check birds/train.json birds/images --against birds/val.json birds/images
exit codes: 0 fine, 1 faults (with --strict: or warnings), 2 the command or a file cannot be used"""


def add_parser(
    subparsers: argparse._SubParsersAction,
    name: str = "check",
    summary: str = "report what a dataset contains and everything wrong with it",
) -> argparse.ArgumentParser:
    """Add the parser of this action, by this name, and return it."""
    parser = subparsers.add_parser(
        name, help=summary, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "dataset",
        nargs="?",
        help="an annotation file in COCO format, or the name of a registered dataset (default: the first of "
        "DATASETS.TRAIN)",
    )
    parser.add_argument("images", nargs="?", help="the image folder of an annotation file")
    parser.add_argument(
        "--against",
        nargs="+",
        metavar=("DATASET", "IMAGES"),
        help="another dataset, such as the one for validation: find what both share",
    )
    add_config_arguments(parser)
    parser.add_argument(
        "--only", type=_split, default=[], metavar="IDS", help="make these checks only, such as 'box-*,no-mask'"
    )
    parser.add_argument("--skip", type=_split, default=[], metavar="IDS", help="leave these checks out")
    parser.add_argument("--strict", action="store_true", help="exit with code 1 for warnings, too")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--list", action="store_true", help="print all checks and their severities, and exit")
    parser.add_argument("--markdown", action="store_true", help="with --list: print docs/data_checks.md")
    parser.add_argument("--skip-images", action="store_true", help="do not decode every image")
    parser.add_argument("--boxes-only", action="store_true", help="objects need no masks, as for models without masks")
    parser.add_argument(
        "--max-image-pixels",
        type=argument(integer(0)),
        metavar="N",
        help="read images of up to N pixels, 0 for no limit; for training and prediction: INPUT.MAX_IMAGE_PIXELS",
    )
    parser.add_argument(
        "--allow-outside-paths",
        action="store_true",
        help="read images outside of the folder, too; for training: DATASETS.ALLOW_OUTSIDE_PATHS",
    )
    return parser


def run(args: argparse.Namespace) -> None:
    """Print the report; exit with code 1 if the dataset has faults."""
    if args.list:
        _print_checks(args)
        return
    from ... import registration  # noqa: F401  (registers the datasets)
    from ...data.datasets import register_datasets
    from ...data.images import MAX_PIXELS
    from ...data.validation.catalog import select
    from ...data.validation.report import Scope, check_dataset

    scope = Scope(
        open_images=not args.skip_images,
        masks=not args.boxes_only,
        max_pixels=MAX_PIXELS if args.max_image_pixels is None else args.max_image_pixels,
        allow_outside=args.allow_outside_paths,
        checks=select(args.only, args.skip),
    )
    cfg = load_data_cfg(args)
    if not cfg.DATASETS.TRAIN:
        raise ConfigError("give a dataset, or a --config-file whose DATASETS.TRAIN names one")
    if args.images is None:
        register_datasets(cfg)
    model = cfg if args.config_file else None
    report = check_dataset(cfg.DATASETS.TRAIN[0], args.images, scope, _pair(args.against), model)
    print(json.dumps(report.to_json(), indent=2) if args.json else report)
    if not report.ok or (args.strict and report.warnings):
        raise SystemExit(1)


def _split(text: str) -> list[str]:
    return text.split(",")


def _pair(words: list[str] | None) -> tuple[str, str | None] | None:
    """Return the two arguments of a dataset, of which the second may be missing."""
    if words is None:
        return None
    if len(words) > 2:
        raise ConfigError(f"--against takes a dataset and its folder of images, not {len(words)} words")
    return words[0], words[1] if len(words) == 2 else None


def _print_checks(args: argparse.Namespace) -> None:
    from ...data.validation.catalog import checks_json, checks_page, checks_table

    if args.markdown:
        print(checks_page(), end="")
    else:
        print(json.dumps(checks_json(), indent=2) if args.json else checks_table())
