"""``centermask-solo train``: what train_net.py does, where there is no checkout."""

from __future__ import annotations

import argparse

from detectron2.config import get_cfg
from detectron2.engine import default_argument_parser

from ..config import add_centermask_solo_config
from ..training.launch import launch
from ..training.setup import setup_cfg
from ..training.trainer import Trainer, evaluate
from ..utils.errors import reported_errors


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """The parser of this subcommand: the flags of Detectron2's own tools."""
    return subparsers.add_parser(
        "train",
        help="train or evaluate a model",
        parents=[default_argument_parser()],
        conflict_handler="resolve",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def run(args: argparse.Namespace) -> None:
    """Start the processes."""
    del args.run  # a function of the command line, which the processes do not need
    launch(main, args)


def main(args: argparse.Namespace) -> None:
    """What each process does."""
    with reported_errors():
        cfg = get_cfg()
        add_centermask_solo_config(cfg)
        setup_cfg(cfg, args)
        if args.eval_only:
            evaluate(cfg, resume=args.resume)
            return
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=args.resume)
        trainer.train()
