"""Arguments that several subcommands share, and the config that they add up to."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..utils.rules import argument, between

if TYPE_CHECKING:
    from detectron2.config import CfgNode


def add_weights_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--weights``, ``--config-file`` and ``--score-threshold``."""
    parser.add_argument(
        "--weights", required=True, metavar="FILE", help="a checkpoint, or centermask_solo:// and the name of a config"
    )
    parser.add_argument(
        "--config-file", default="", metavar="FILE", help="default: the config stored in the checkpoint or next to it"
    )
    parser.add_argument(
        "--score-threshold",
        type=argument(between(0, 1), float),
        metavar="SCORE",
        help="drop instances with lower scores (default: the threshold of the model's system, such as 0.3)",
    )


def add_color_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--color-by``."""
    parser.add_argument(
        "--color-by",
        choices=("instance", "class"),
        default="instance",
        help="what has a color of its own in pictures (default: instance)",
    )


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add the KEY VALUE pairs at the end of the command line."""
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config options to override")


def load_cfg(args: argparse.Namespace) -> CfgNode:
    """Return the config of ``--weights``, with the overrides; register its datasets."""
    from detectron2.config import get_cfg

    from .. import add_centermask_solo_config
    from ..config import merge_config
    from ..data.datasets import register_datasets
    from ..model_zoo import find_config

    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    merge_config(cfg, args.config_file or find_config(args.weights), [*args.opts, "MODEL.WEIGHTS", args.weights])
    register_datasets(cfg)
    return cfg
