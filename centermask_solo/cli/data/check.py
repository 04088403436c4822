"""``centermask-solo data check``: report what a dataset contains and what is wrong with it."""

from __future__ import annotations

import argparse

from ...utils.errors import ConfigError
from ...utils.rules import argument, integer


def add_parser(
    subparsers: argparse._SubParsersAction,
    name: str = "check",
    summary: str = "report what a dataset contains and everything wrong with it",
) -> argparse.ArgumentParser:
    """Add the parser of this action, by this name, and return it."""
    parser = subparsers.add_parser(name, help=summary)
    parser.add_argument("dataset", help="an annotation file in COCO format, or the name of a registered dataset")
    parser.add_argument("images", nargs="?", help="the image folder of an annotation file")
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
    if args.images is None and args.dataset.endswith(".json"):
        raise ConfigError(f"give the folder of the images after {args.dataset}")
    from ...data.images import MAX_PIXELS
    from ...data.validation.report import check_coco_files, check_dataset

    open_images, masks = not args.skip_images, not args.boxes_only
    limit = MAX_PIXELS if args.max_image_pixels is None else args.max_image_pixels
    outside = args.allow_outside_paths
    if args.images is not None:
        report = check_coco_files(
            *(args.dataset, args.images, None, open_images, masks, limit),
            allow_outside=outside,
        )
    else:
        report = check_dataset(args.dataset, open_images, masks, limit, outside)
    print(report)
    if not report.ok:
        raise SystemExit(1)
