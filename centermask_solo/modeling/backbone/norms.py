"""Batch normalization that is trained or frozen depending on the batch size."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.utils import comm

__all__ = ["BN_FROM_6", "norm_for_batch"]

BN_FROM_6 = "BNFrom6"
MIN_IMAGES = 6  # per process, for statistics that are good enough to train with


def norm_for_batch(cfg: CfgNode, norm: str) -> str:
    """Return ``norm`` as a name of Detectron2's ``get_norm``, with "BNFrom6" resolved.

    "BNFrom6" is "BN" if each process has at least 6 images per batch (``SOLVER.IMS_PER_BATCH``), else "FrozenBN": the
    statistics of few images are noisier than those of ImageNet.

    Source: the training of YOLACT's published code.
    """
    if norm != BN_FROM_6:
        return norm
    return "BN" if cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size() >= MIN_IMAGES else "FrozenBN"
