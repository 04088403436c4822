"""Arguments that several subcommands share, and the config that they add up to."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..utils.errors import ConfigError
from ..utils.rules import argument, between

if TYPE_CHECKING:
    from detectron2.config import CfgNode


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--weights`` and ``--config-file``."""
    parser.add_argument(
        "--weights",
        required=True,
        metavar="FILE",
        help="weights of a detector of any known source, or centermask_solo:// and the name of a config",
    )
    parser.add_argument(
        "--config-file",
        default="",
        metavar="FILE",
        help="default: the config stored in the weights or next to them, or the only one of this package that they fit",
    )


def add_weights_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--weights``, ``--config-file`` and ``--score-threshold``."""
    add_model_arguments(parser)
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


def check_no_options(exported: str, given: Iterable[str]) -> None:
    """Raise ConfigError if options are given, "" aside, that an exported file cannot obey."""
    names = [x for x in given if x]
    if names:
        raise ConfigError(f"{exported} is an exported model, whose options are fixed: leave out {', '.join(names)}")


def load_cfg(args: argparse.Namespace) -> CfgNode:
    """Return the config of ``--weights``, with the overrides; register its datasets."""
    from .. import registration  # noqa: F401  (registers the models)
    from ..data.datasets import register_datasets
    from ..model_zoo.lookup import load_cfg as load

    cfg = load(args.weights, args.config_file, args.opts)
    register_datasets(cfg)
    return cfg
