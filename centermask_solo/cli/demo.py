"""``centermask-solo demo``: a model trained, judged and drawn in minutes."""

from __future__ import annotations

import argparse

from detectron2.config import get_cfg

from ..config import add_centermask_solo_config
from ..demo import demo_configs, run_demo


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """The parser of this subcommand."""
    parser = subparsers.add_parser("demo", help="train a small model on generated images and draw what it finds")
    parser.add_argument("--model", default="solov2", help=f"one of {', '.join(demo_configs())} (default solov2)")
    parser.add_argument("--output", default="", help="folder of the results (default output/demo_<model>)")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config options to change")
    return parser


def run(args: argparse.Namespace) -> None:
    """Run the demo."""
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    run_demo(cfg, args.model, args.output, args.opts)
