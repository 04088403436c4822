"""Batch normalization that is trained or frozen by the size of the batch."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.utils import comm

__all__ = ["BN_FROM_6", "norm_for_batch"]

BN_FROM_6 = "BNFrom6"
MIN_IMAGES = 6  # of a process, for statistics that are worth training with


def norm_for_batch(cfg: CfgNode, norm: str) -> str:
    """The name of a normalization in Detectron2's ``get_norm``: ``norm``, where it is not "BNFrom6".

    "BNFrom6" is "BN" if every process has at least 6 images of a batch (``SOLVER.IMS_PER_BATCH``), else "FrozenBN".

    Source: the training of YOLACT's published code. Why: statistics of few images are too noisy to train with, while
        those of ImageNet are good ones.
    """
    if norm != BN_FROM_6:
        return norm
    return "BN" if cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size() >= MIN_IMAGES else "FrozenBN"
