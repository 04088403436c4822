"""``centermask-solo analyze``: where the average precision of a model is lost, or what differs between two."""

from __future__ import annotations

import argparse

from ..utils.errors import ConfigError
from ..utils.rules import COUNT, argument, between, integer
from .options import add_ground_truth_arguments

EXAMPLE = """examples:
  centermask-solo analyze coco_instances_results.json --dataset coco_2017_val --output report.html
  centermask-solo analyze predictions.json --ground-truth val.json --images photos/ --output report.html --json n.json
  centermask-solo analyze before.json after.json --ground-truth val.json --images photos/ --output difference.html

The exit code is 0 if the results were analyzed, and 2 if something is wrong with the input.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the parser of this subcommand and return it."""
    parser = subparsers.add_parser(
        "analyze",
        help="show where the AP of a model is lost, or what differs between two",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "results",
        nargs="+",
        metavar="RESULTS",
        help="a results file: coco_instances_results.json of an evaluation, or predictions.json of predict; a second "
        "one is compared with the first",
    )
    add_ground_truth_arguments(parser)
    parser.add_argument("--output", default="", metavar="FILE", help="the page to write (.html)")
    parser.add_argument("--json", default="", metavar="FILE", help="write all numbers to this file")
    parser.add_argument("--boxes", action="store_true", help="analyze boxes even if the results have masks")
    parser.add_argument(
        "--score-threshold",
        type=argument(between(0, 1), float),
        metavar="SCORE",
        help="for the confusion of classes and the worst images (default: that of the highest F1)",
    )
    parser.add_argument(
        "--max-detections",
        type=argument(COUNT),
        metavar="N",
        help="detections of an image and class that count (default: 100; LVIS, of an image: 300)",
    )
    parser.add_argument(
        "--pictures",
        type=argument(integer(0)),
        metavar="N",
        help="how many of the worst images, and of the mistakes, are on the page (default: 24)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the outputs if they exist")
    return parser


def run(args: argparse.Namespace) -> None:
    """Analyze, write the outputs, and print short tables."""
    from .. import registration  # noqa: F401  (registers the datasets)
    from ..evaluation.analysis import Comparison
    from ..inference.analysis import PICTURES, analyze
    from ..inference.analysis_tables import analysis_text, comparison_text

    if args.pictures is not None and not args.output:
        raise ConfigError("--pictures are on the page, which --output names: add it, or leave out --pictures")
    found = analyze(
        args.results,
        args.ground_truth,
        args.images,
        dataset=args.dataset,
        page=args.output,
        json_file=args.json,
        boxes=args.boxes,
        max_detections=args.max_detections,
        score_threshold=args.score_threshold,
        pictures=PICTURES if args.pictures is None else args.pictures,
        overwrite=args.overwrite,
    )
    print(comparison_text(found) if isinstance(found, Comparison) else analysis_text(found))
    for path in filter(None, (args.output, args.json)):
        print(path)
