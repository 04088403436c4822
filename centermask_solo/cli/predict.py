"""``centermask-solo predict``: pictures, and instances in COCO format, of images."""

from __future__ import annotations

import argparse
import os

from detectron2.config import get_cfg

from ..config import add_centermask_solo_config, merge_config
from ..inference.predictor import predict_to_folder
from ..model_zoo import find_config
from ..visualization.pictures import SCORE_THRESHOLD


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """The parser of this subcommand."""
    parser = subparsers.add_parser("predict", help="find instances in images and draw them")
    parser.add_argument("--weights", required=True, metavar="FILE", help="a checkpoint")
    parser.add_argument(
        "--config-file", default="", metavar="FILE", help="default: the config in the weights, or beside them"
    )
    parser.add_argument("--input", required=True, nargs="+", metavar="PATH", help="images, folders of images, patterns")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="where pictures and predictions.json go")
    parser.add_argument(
        "--score-threshold", type=float, default=SCORE_THRESHOLD, help="of the instances kept (default %(default)s)"
    )
    parser.add_argument("--batch-size", type=int, default=1, help="images that go through the networks at once")
    parser.add_argument("--no-pictures", action="store_true", help="write only predictions.json")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config options to change")
    return parser


def run(args: argparse.Namespace) -> None:
    """Predict."""
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    merge_config(cfg, args.config_file or find_config(args.weights), [*args.opts, "MODEL.WEIGHTS", args.weights])
    count = predict_to_folder(
        cfg,
        args.input,
        args.output,
        score_threshold=args.score_threshold,
        batch_size=args.batch_size,
        with_pictures=not args.no_pictures,
    )
    print(f"{count} instances; see {os.path.join(args.output, 'predictions.json')}")
