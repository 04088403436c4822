"""What train_net.py runs, for a SOLOv2 in double precision: float32 would blur the comparison of two runs."""

from __future__ import annotations

import argparse

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY

from centermask_solo.cli import train
from centermask_solo.modeling.solov2 import SOLOv2


class DoubleSOLOv2(SOLOv2):
    """SOLOv2 with float64 parameters and buffers."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__(cfg)
        self.double()


if "DoubleSOLOv2" not in META_ARCH_REGISTRY:
    META_ARCH_REGISTRY.register(DoubleSOLOv2)


def main(args: argparse.Namespace) -> None:
    """Run ``centermask_solo.cli.train.main`` in a process that knows :class:`DoubleSOLOv2`."""
    train.main(args)
