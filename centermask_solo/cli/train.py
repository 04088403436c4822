"""``centermask-solo train``: train or evaluate a model; ``train_net.py`` does the same in a checkout."""

from __future__ import annotations

import argparse
import os

from ..utils.quiet import hide_foreign_warnings
from ..utils.rules import COUNT, argument, integer, unless
from .options import Several, add_overrides

FIRST_PORT = 49152  # of the range that is free for private use


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the parser of this subcommand and return it."""
    parser = subparsers.add_parser(
        "train",
        help="train or evaluate a model",
        epilog="example: centermask-solo train --config-file SOLOv2/solov2_R_50_3x.yaml --train-json train.json "
        "--train-images photos/ --val-json val.json --val-images photos/ SOLVER.IMS_PER_BATCH 4 OUTPUT_DIR output/mine",
    )
    add_arguments(parser)
    return parser


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of Detectron2's ``default_argument_parser``, whose import would load PyTorch, and those of here."""
    parser.add_argument(
        "--config-file",
        default="",
        metavar="FILE",
        help="a path, or a name in configs such as SOLOv2/solov2_R_50_3x.yaml",
    )
    _add_own_data(parser)
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoint in OUTPUT_DIR, if any")
    parser.add_argument("--overwrite", action="store_true", help="replace the training in OUTPUT_DIR, if any")
    parser.add_argument(
        "--auto",
        action="store_true",
        help="set schedule, input size, sizes of objects, augmentation and sampler by the data; what you set stays",
    )
    parser.add_argument("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS without training")
    parser.add_argument(
        "--num-gpus",
        type=argument(integer(0)),
        default=1,
        help="GPUs per machine; without a GPU: processes (default: 1)",
    )
    parser.add_argument(
        "--batch-size",
        type=argument(unless("auto", COUNT)),
        metavar="N",
        help='images per iteration, or "auto" for as many as fit in memory; learning rate and schedule follow '
        "(default: SOLVER.IMS_PER_BATCH)",
    )
    parser.add_argument("--num-machines", type=argument(COUNT), default=1, help="number of machines (default: 1)")
    parser.add_argument(
        "--machine-rank", type=argument(integer(0)), default=0, help="rank of this machine, from 0 (default: 0)"
    )
    parser.add_argument(
        "--dist-url",
        default=f"tcp://127.0.0.1:{_default_port()}",
        metavar="URL",
        help='address at which the processes meet, or "auto" for a free port (default: a port for each user)',
    )
    parser.add_argument("--verbose", action="store_true", help="print all of log.txt instead of a summary")
    add_overrides(parser)


def _add_own_data(parser: argparse.ArgumentParser) -> None:
    """Add the flags that name the user's own data, which replaces the datasets of the config."""
    group = parser.add_argument_group(
        "own data",
        "Data in place of the config's datasets; the number of classes and their names are taken from it. Example: "
        "--train-json train.json --train-images photos/ --val-json val.json --val-images photos/",
    )
    for split, what in (("train", "train on"), ("val", "evaluate on")):
        group.add_argument(f"--{split}-json", metavar="JSON", help=f"annotations in COCO format to {what}")
        group.add_argument(
            f"--{split}-images", metavar="FOLDER", help="folder of their images (default: that of the json)"
        )
        group.add_argument(
            f"--{split}-dir", metavar="FOLDER", help=f"folder of labelme, YOLO, VOC or Cityscapes files to {what}"
        )
    group.add_argument(
        "--class-names",
        action=Several,
        metavar="NAME",
        help="names of the classes, in order, where folders have none",
    )


def _default_port() -> int:
    """Return Detectron2's choice; on one machine, the processes meet in a file instead."""
    user = os.getuid() if hasattr(os, "getuid") else 1
    return FIRST_PORT + user % 2**14


def run(args: argparse.Namespace) -> None:
    """Start the processes."""
    import torch

    from ..training.launch import launch
    from ..training.setup import device_of

    on_cpu = args.num_gpus > 1 and torch.cuda.is_available() and device_of(args).startswith("cpu")
    args = argparse.Namespace(**{name: value for name, value in vars(args).items() if name != "run"})
    launch(main, args, on_cpu=on_cpu)


def main(args: argparse.Namespace) -> None:
    """Train or evaluate in one of the processes."""
    from ..training.launch import reported_once
    from ..training.progress import ProgressPrinter
    from ..training.run import run_training
    from ..training.setup import setup_cfg

    hide_foreign_warnings()  # of this process, which may be another than the one that parsed the arguments
    verbose = getattr(args, "verbose", False)  # arguments may come from Detectron2's own parser
    with reported_once():
        cfg = setup_cfg(args, screen="everything" if verbose else "summary")
        run_training(
            cfg,
            resume=args.resume,
            eval_only=args.eval_only,
            overwrite=getattr(args, "overwrite", False),
            batch_size=str(getattr(args, "batch_size", None) or ""),
            hooks=[] if verbose else [ProgressPrinter()],
        )
