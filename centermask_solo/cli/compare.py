"""``centermask-solo compare``: images of a dataset beside their ground truth and what a model finds."""

from __future__ import annotations

import argparse

from detectron2.config import get_cfg

from ..config import add_centermask_solo_config, merge_config
from ..data.datasets import register_datasets
from ..inference.predictor import compare_with_truth
from ..model_zoo import find_config
from ..visualization.pictures import SCORE_THRESHOLD


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """The parser of this subcommand."""
    parser = subparsers.add_parser("compare", help="draw images beside their ground truth and the predictions")
    parser.add_argument("--weights", required=True, metavar="FILE", help="a checkpoint")
    parser.add_argument(
        "--config-file", default="", metavar="FILE", help="default: the config in the weights, or beside them"
    )
    parser.add_argument("--output", required=True, metavar="FILE", help="the picture to write: .png or .jpg")
    parser.add_argument("--count", type=int, default=12, help="images, spread over DATASETS.TEST (default 12)")
    parser.add_argument(
        "--score-threshold", type=float, default=SCORE_THRESHOLD, help="of the instances drawn (default %(default)s)"
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config options to change")
    return parser


def run(args: argparse.Namespace) -> None:
    """Draw."""
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    merge_config(cfg, args.config_file or find_config(args.weights), [*args.opts, "MODEL.WEIGHTS", args.weights])
    register_datasets(cfg)
    print(compare_with_truth(cfg, args.output, args.count, args.score_threshold))
