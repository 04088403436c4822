"""Arguments that several subcommands share, and the config that they add up to."""

from __future__ import annotations

import argparse
import csv
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..utils.reading import error_without_images
from ..utils.rules import COUNT, argument, between

if TYPE_CHECKING:
    from detectron2.config import CfgNode

# What begins an override, not a path: an option in a group, or one of those outside of groups
OVERRIDE = re.compile(r"(DATALOADER|DATASETS|GLOBAL|INPUT|MODEL|SOLVER|TEST)\.[A-Z]|(OUTPUT_DIR|SEED|VIS_PERIOD)$")


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


def add_color_argument(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add ``--color-by``."""
    parser.add_argument(
        "--color-by",
        choices=("instance", "class"),
        default="instance",
        help="what has a color of its own in pictures (default: instance)",
    )


def add_runtime_arguments(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add ``--threads`` and ``--providers``."""
    parser.add_argument(
        "--threads", type=argument(COUNT), metavar="N", help="CPU threads (default: the runtime's choice)"
    )
    parser.add_argument(
        "--providers",
        type=names,
        metavar="NAMES",
        help="what computes an exported file: execution providers of ONNX Runtime, the best first, such as "
        "CUDAExecutionProvider,CPUExecutionProvider, or one device of OpenVINO (default: the CPU)",
    )


def add_ground_truth_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--dataset``, or ``--ground-truth`` and ``--images``."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--dataset", default="", metavar="NAME", help="a registered dataset, such as coco_2017_val")
    which.add_argument("--ground-truth", default="", metavar="FILE", help="annotations of your own, in COCO's format")
    parser.add_argument("--images", default="", metavar="FOLDER", help="the images of --ground-truth")


def names(text: str) -> list[str]:
    """Return the names in a list with commas, for ``type`` of ``ArgumentParser.add_argument``.

    Names that have commas themselves are in double quotes, as in a table.
    """
    found = [name.strip() for line in csv.reader([text], skipinitialspace=True) for name in line if name.strip()]
    if not found:
        raise argparse.ArgumentTypeError(f"must be names with commas between them, not {text!r}")
    return found


class Several(argparse.Action):
    """Takes several values, of which there is at least one, but not the KEY VALUE pairs that may follow them."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        """See ``argparse.Action``."""
        super().__init__(option_strings, dest, nargs="+", **options)

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        """Set the values, and add what follows them to the overrides."""
        end = next((i for i, x in enumerate(values) if i and OVERRIDE.match(x) and not os.path.exists(x)), len(values))
        setattr(namespace, self.dest, values[:end])
        namespace.opts = [*(getattr(namespace, "opts", None) or ()), *values[end:]]


class _Overrides(argparse.Action):
    """Adds to the overrides that :class:`Several` has found."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        namespace.opts = [*(getattr(namespace, "opts", None) or ()), *values]


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add the KEY VALUE pairs at the end of the command line."""
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, action=_Overrides, metavar="KEY VALUE", help="config options to override"
    )


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--overwrite`` and ``--json``."""
    parser.add_argument("--overwrite", action="store_true", help="replace earlier results in the output")
    parser.add_argument("--json", action="store_true", help="print a summary in JSON")


def load_cfg(args: argparse.Namespace) -> CfgNode:
    """Return the config of ``--weights``, with the overrides; register its datasets."""
    from .. import registration  # noqa: F401  (registers the models)
    from ..data.datasets import register_datasets
    from ..model_zoo.lookup import load_cfg as load

    cfg = load(args.weights, args.config_file, args.opts)
    register_datasets(cfg)
    return cfg


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--config-file`` and ``--options``, for commands whose other arguments are files."""
    parser.add_argument(
        "--config-file",
        default="",
        metavar="FILE",
        help="a config of the model that is to be trained (a path or a name)",
    )
    parser.add_argument(
        "--options", nargs="+", default=[], metavar="KEY VALUE", help="config options to override, in pairs"
    )


def load_data_cfg(args: argparse.Namespace) -> CfgNode:
    """Return the config of ``--config-file`` and ``--options``; a given dataset is its ``DATASETS.TRAIN``.

    Raises:
        ConfigError: An option is wrong, or the folder of the images of an annotation file is missing.
        DataError: The annotation file is missing.
    """
    from ..config import default_config, merge_config

    cfg = default_config()
    merge_config(cfg, args.config_file, args.options)
    if args.dataset is None:
        return cfg
    if args.images is not None:
        cfg.DATASETS.COCO_JSON = [[args.dataset, args.dataset, args.images]]
    elif args.dataset.endswith(".json"):
        raise error_without_images(args.dataset)
    cfg.DATASETS.TRAIN = (args.dataset,)
    return cfg
