#!/usr/bin/env python
"""Train or evaluate a model of this repository, or one of Detectron2's own, from a config file.

    python train_net.py --config-file configs/SOLOv2/solov2_R_50_3x.yaml --num-gpus 8
    python train_net.py --config-file ... --eval-only MODEL.WEIGHTS model_final.pth
    python train_net.py --config-file ... --resume

The flags are those of Detectron2's own tools. Without a GPU it runs on the CPU; --num-gpus is the number of processes.
What each process does is ``centermask_solo.cli.train.main``.
"""

from detectron2.engine import default_argument_parser

from centermask_solo.cli.train import main
from centermask_solo.training.launch import launch
from centermask_solo.utils.errors import reported_errors

if __name__ == "__main__":
    with reported_errors():
        launch(main, default_argument_parser().parse_args())
