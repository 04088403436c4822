"""``centermask-solo data browse``: draw the ground truth of a dataset as a model sees it in training."""

from __future__ import annotations

import argparse

from ...utils.errors import ConfigError
from ...utils.rules import COUNT, argument, integer
from ..options import add_color_argument, add_config_arguments, load_data_cfg

_EPILOG = """example:
  centermask-solo data browse birds/train.json birds/images --output birds.html \\
      --config-file configs/SOLOv2/solov2_R_50_1x.yaml"""


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the parser of this action and return it."""
    parser = subparsers.add_parser(
        "browse",
        help="draw the ground truth of a dataset as a model sees it in training",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "dataset",
        nargs="?",
        help="an annotation file in COCO format, or the name of a registered dataset (default: the first of "
        "DATASETS.TRAIN)",
    )
    parser.add_argument("images", nargs="?", help="the image folder of an annotation file")
    parser.add_argument(
        "--output", required=True, metavar="FILE", help="a page to write (.html), or a picture (.png or .jpg)"
    )
    add_config_arguments(parser)
    parser.add_argument(
        "--augment",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="draw images after the augmentation of the config, or as they are in the files (default: --augment)",
    )
    parser.add_argument("--seed", type=argument(integer(0)), default=0, metavar="N", help="of the augmentation")
    parser.add_argument(
        "--max-images", type=argument(COUNT), default=48, metavar="N", help="images, evenly spaced (default: 48)"
    )
    add_color_argument(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    return parser


def run(args: argparse.Namespace) -> None:
    """Write the page or the picture, and print its path."""
    from ... import registration  # noqa: F401  (registers the datasets)
    from ...data.datasets import load_dataset, register_datasets
    from ...visualization.browse import View, browse_dataset

    cfg = load_data_cfg(args)
    register_datasets(cfg)
    if not cfg.DATASETS.TRAIN:
        raise ConfigError("give a dataset, or a --config-file whose DATASETS.TRAIN names one")
    view = View(args.augment, args.seed, args.max_images, args.color_by)
    name = cfg.DATASETS.TRAIN[0]
    number = browse_dataset(cfg, name, load_dataset(name), args.output, view, overwrite=args.overwrite)
    print(f"{args.output}: {number} image{'' if number == 1 else 's'}")
