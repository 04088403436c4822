#!/usr/bin/env python
"""Train or evaluate a model of this repository, or one of Detectron2's own, from a config file.

    python train_net.py --config-file configs/SOLOv2/solov2_R_50_3x.yaml --num-gpus 8
    python train_net.py --config-file ... --eval-only MODEL.WEIGHTS model_final.pth
    python train_net.py --config-file ... --resume

The flags are those of Detectron2's own tools. Without a GPU it runs on the CPU; --num-gpus is the number of processes.
Each process runs ``centermask_solo.cli.train.main``.
"""

import argparse

from centermask_solo.cli.train import add_arguments, main, run
from centermask_solo.utils.errors import reported_errors
from centermask_solo.utils.quiet import hide_foreign_warnings

__all__ = ["main"]

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    hide_foreign_warnings()
    with reported_errors():
        run(parser.parse_args())
