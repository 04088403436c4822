"""``centermask-solo evaluate``: the official metrics of weights, of an exported file, or of results."""

from __future__ import annotations

import argparse

from ..utils.errors import ConfigError
from ..utils.quiet import hide_foreign_warnings
from ..utils.rules import argument, integer
from .options import add_ground_truth_arguments, add_overrides, add_runtime_arguments

EXAMPLE = """examples:
  centermask-solo evaluate --weights model_final.pth --dataset coco_2017_val --output output/evaluation
  centermask-solo evaluate --weights model.onnx --ground-truth val.json --images photos/ --json metrics.json
  centermask-solo evaluate --results coco_instances_results.json --dataset coco_2017_val
  centermask-solo evaluate --results panoptic.json --ground-truth panoptic_val2017.json --images panoptic_val2017/

The exit code is 0 if the metrics were computed, and 2 if something is wrong with the input.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the parser of this subcommand and return it."""
    parser = subparsers.add_parser(
        "evaluate",
        help="compute the metrics of COCO, LVIS or panoptic segmentation",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--weights",
        metavar="FILE",
        help="weights of any known source, centermask_solo:// and the name of a config, or an exported file",
    )
    what.add_argument(
        "--results",
        metavar="FILE",
        help="a results file in COCO's format, predictions.json of predict, or a json of COCO's panoptic format beside "
        "its folder of PNGs",
    )
    add_ground_truth_arguments(parser)
    parser.add_argument(
        "--config-file",
        default="",
        metavar="FILE",
        help="config of the weights (default: the one inside or beside them)",
    )
    parser.add_argument(
        "--dtype",
        default="",
        choices=("float32", "bfloat16", "float16", "int8"),
        help="precision of the networks (default: TEST.DTYPE)",
    )
    parser.add_argument("--device", default="", metavar="NAME", help="such as cpu or cuda (default: MODEL.DEVICE)")
    add_runtime_arguments(parser)
    parser.add_argument(
        "--max-detections",
        type=argument(integer(10)),
        metavar="N",
        help="detections of an image that count in --results (default: all; of weights: what the model may return)",
    )
    parser.add_argument(
        "--output",
        metavar="FOLDER",
        help="folder for the results of weights, the metrics and the log (default: output/evaluation)",
    )
    parser.add_argument("--json", default="", metavar="FILE", help="write the metrics to this file, too")
    parser.add_argument("--overwrite", action="store_true", help="replace the outputs of an earlier evaluation")
    parser.add_argument("--verbose", action="store_true", help="print all of log.txt instead of a summary")
    add_overrides(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Evaluate, print the table and write the metrics."""
    from .. import registration  # noqa: F401  (registers the models and datasets)
    from ..evaluation.results import format_results, write_json
    from ..utils.files import claim_file

    if args.json:
        inputs = filter(None, (args.weights, args.results, args.ground_truth))
        claim_file(args.json, inputs, overwrite=args.overwrite)
    if args.results:
        metrics = _of_results(args)
        print(format_results(metrics))
    else:
        metrics = _of_weights(args)
    if args.json:
        write_json(metrics, args.json)


def _of_results(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    from ..evaluation.of_results import evaluate_results

    given = [
        f"--{x.replace('_', '-')}"
        for x in ("config_file", "dtype", "device", "threads", "providers")
        if getattr(args, x)
    ]
    if args.verbose or (args.overwrite and not args.json):
        raise ConfigError("--results has no log and replaces nothing but --json: leave out --verbose and --overwrite")
    if args.output:
        raise ConfigError("--results fills no folder: leave out --output; --json FILE keeps the metrics")
    if given or args.opts:
        raise ConfigError(f"--results needs no model: leave out {', '.join([*given, *args.opts])}")
    return evaluate_results(
        *(args.results, args.ground_truth, args.images),
        dataset=args.dataset,
        max_detections=args.max_detections,
    )


def _of_weights(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    from ..model_zoo.evaluating import evaluate_weights

    if args.max_detections:
        raise ConfigError("--max-detections is for --results: set TEST.DETECTIONS_PER_IMAGE, or the model's own limit")
    hide_foreign_warnings()
    return evaluate_weights(
        *(args.weights, args.ground_truth, args.images),
        dataset=args.dataset,
        output_dir=args.output or "output/evaluation",
        config_file=args.config_file,
        dtype=args.dtype,
        device=args.device,
        threads=args.threads,
        providers=args.providers or (),
        opts=args.opts,
        overwrite=args.overwrite,
        screen="everything" if args.verbose else "summary",
    )
