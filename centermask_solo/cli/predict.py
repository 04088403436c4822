"""``centermask-solo predict``: find the instances in images, draw them and write them in COCO format."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..runtime.formats import format_of_file
from ..utils.errors import report
from ..utils.rules import COUNT, argument
from .options import add_color_argument, add_overrides, add_weights_arguments, check_no_options, load_cfg

if TYPE_CHECKING:
    from detectron2.config import CfgNode


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the parser of this subcommand and return it."""
    parser = subparsers.add_parser("predict", help="find instances in images and draw them")
    add_weights_arguments(parser)
    parser.add_argument("--input", required=True, nargs="+", metavar="PATH", help="images, image folders or patterns")
    parser.add_argument("--recursive", action="store_true", help="include the subfolders of image folders")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="folder for pictures and predictions.json")
    parser.add_argument(
        "--batch-size", type=argument(COUNT), default=1, help="most images per forward pass (default: 1)"
    )
    parser.add_argument("--no-pictures", action="store_true", help="write predictions.json only")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16", "int8"),
        help="precision of the networks (default: TEST.DTYPE); int8 needs TEST.INT8_RANGES, see calibrate",
    )
    add_color_argument(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace the results of an earlier run")
    add_overrides(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Predict, and print the number of instances; name the images that cannot be read and exit with code 1."""
    from ..inference.result_file import PREDICTIONS
    from ..inference.results import predict_to_folder

    done = predict_to_folder(
        _model(args),
        args.input,
        args.output,
        score_threshold=args.score_threshold,
        batch_size=args.batch_size,
        with_pictures=not args.no_pictures,
        color_by=args.color_by,
        recursive=args.recursive,
        overwrite=args.overwrite,
    )
    hint = "" if done.num_instances else "; a lower --score-threshold keeps more"
    images = "1 image" if done.num_images == 1 else f"{done.num_images} images"
    instances = "1 instance" if done.num_instances == 1 else f"{done.num_instances} instances"
    print(f"{instances} in {images}{hint}; see {args.output}/{PREDICTIONS}", flush=True)
    for failure in done.failures:
        report(failure)
    if done.failures:
        raise SystemExit(1)


def _model(args: argparse.Namespace) -> CfgNode | str:
    """Return the config of the weights, or the path of an exported file, which takes no further options.

    Raises:
        ConfigError: Options are given that the file cannot obey.
    """
    if format_of_file(args.weights) is None:
        if args.dtype:
            args.opts += ["TEST.DTYPE", args.dtype]
        return load_cfg(args)
    given = [name for name, value in (("--config-file", args.config_file), ("--dtype", args.dtype)) if value]
    check_no_options(args.weights, [*given, *args.opts])
    return str(args.weights)
