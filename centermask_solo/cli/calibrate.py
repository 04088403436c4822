"""``centermask-solo calibrate``: prepare prediction in 8-bit integers, and state what it costs."""

from __future__ import annotations

import argparse
import tempfile
from typing import TYPE_CHECKING, Any

from ..utils.errors import ConfigError
from ..utils.rules import COUNT, argument
from .options import Several, add_overrides, add_weights_arguments, load_cfg

if TYPE_CHECKING:
    from detectron2.config import CfgNode

EXAMPLE = """example:
  centermask-solo calibrate --weights model_final.pth --input photos/ --output int8.json
  centermask-solo predict --weights model_final.pth --input photos/ --output found \\
      --dtype int8 TEST.INT8_RANGES int8.json
"""


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the parser of this subcommand and return it."""
    parser = subparsers.add_parser(
        "calibrate",
        help="measure the ranges that prediction in 8-bit integers needs",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_weights_arguments(parser)
    parser.add_argument(
        "--input",
        required=True,
        action=Several,
        metavar="PATH",
        help="images like those to predict: files, folders, patterns",
    )
    parser.add_argument("--output", required=True, metavar="FILE", help="json file to write, for TEST.INT8_RANGES")
    parser.add_argument("--count", type=argument(COUNT), default=64, help="most images to measure (default: 64)")
    parser.add_argument(
        "--evaluate", action="store_true", help="also print the AP of DATASETS.TEST in float32 and in int8"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    add_overrides(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Calibrate, and print how far the detections in int8 are from those in float32."""
    from ..inference.calibration import calibrate_to_file
    from ..utils.files import claim_file

    claim_file(args.output, filter(None, [args.config_file]), overwrite=args.overwrite)
    cfg = load_cfg(args)
    if args.evaluate:
        _check_datasets(cfg)
    found = calibrate_to_file(
        cfg,
        args.input,
        args.output,
        count=args.count,
        score_threshold=args.score_threshold,
        overwrite=args.overwrite,
    )
    print(
        f"{args.output} written. Detections: {found.reference} in float32, {found.found} in int8, of which "
        f"{found.matched} agree (mean IoU {found.mean_iou:.3f}, mean difference of scores {found.score:.3f})",
        flush=True,
    )
    if args.evaluate:
        _print_ap(cfg, args.output)


def _check_datasets(cfg: CfgNode) -> None:
    """Check, before the work begins, that there are datasets, with the classes of the weights."""
    from ..checkpoint import read_weight_file
    from ..evaluation.by_name import order_in_dataset

    if not cfg.DATASETS.TEST:
        raise ConfigError("--evaluate needs a dataset: name it in DATASETS.TEST")
    names = read_weight_file(cfg.MODEL.WEIGHTS, known_only=False, mapped=True).thing_classes
    for dataset_name in cfg.DATASETS.TEST:
        order_in_dataset(names, dataset_name)


def _print_ap(cfg: CfgNode, ranges: str) -> None:
    """Print the AP of each task in both precisions, and the loss."""
    from ..evaluation.results import average_precisions, format_average_precisions
    from ..training.evaluate import evaluate

    results: dict[str, dict[str, Any]] = {}
    for dtype in ("float32", "int8"):
        with tempfile.TemporaryDirectory() as folder:
            chosen = cfg.clone()
            chosen.merge_from_list(["TEST.DTYPE", dtype, "TEST.INT8_RANGES", ranges, "OUTPUT_DIR", folder])
            results[dtype] = evaluate(chosen)
    found = average_precisions(results["float32"], results["int8"])
    print(format_average_precisions(found, "in float32", "in int8"))
