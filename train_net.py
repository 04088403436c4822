#!/usr/bin/env python
"""Train or evaluate a model of this repository, or one of Detectron2's own, from a config file.

    python train_net.py --config-file configs/SOLOv2/solov2_R_50_3x.yaml --num-gpus 8
    python train_net.py --config-file ... --eval-only MODEL.WEIGHTS model_final.pth
    python train_net.py --config-file ... --resume

The flags are those of Detectron2's own tools. Without a GPU it runs on the CPU; --num-gpus is the number of processes.
"""

import argparse

from detectron2.config import get_cfg
from detectron2.engine import default_argument_parser

from centermask_solo import add_centermask_solo_config
from centermask_solo.engine.errors import reported_errors
from centermask_solo.engine.launch import launch
from centermask_solo.engine.setup import setup_cfg
from centermask_solo.engine.trainer import Trainer, evaluate


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


if __name__ == "__main__":
    with reported_errors():
        arguments = default_argument_parser().parse_args()
        launch(main, arguments)
