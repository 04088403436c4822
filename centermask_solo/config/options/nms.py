"""Non-maximum suppression: one schema for all systems, ``MODEL.<SYSTEM>.NMS``."""

from __future__ import annotations

from detectron2.config import CfgNode


def nms_node(name: str, iou_thresh: float) -> CfgNode:
    """Return the NMS options of a system with its default rule and IoU threshold.

    Any rule can be tried in any system that predicts what the rule needs. Each rule reads only its own options.
    """
    node = CfgNode()
    node.NAME = name  # "MatrixNMS", "MaskNMS", "BatchedNMS", "FastNMS" or "TraditionalNMS"
    node.IOU_THRESH = iou_thresh  # all but MatrixNMS: overlap above which (TraditionalNMS: from which on) to suppress
    node.KERNEL = "gaussian"  # MatrixNMS: "gaussian" or "linear"
    node.SIGMA = 2.0  # MatrixNMS, gaussian: scores decay by exp(-SIGMA * iou^2); 1 / sigma in the paper
    # MatrixNMS: minimum decayed score; TraditionalNMS: minimum class score, exclusive
    node.SCORE_THRESH = 0.05
    node.TOPK = 200  # FastNMS: top-k candidates per class
    node.CLASS_SCORE_THRESH = 0.0  # FastNMS: minimum class score, exclusive; 0 reproduces the published figures
    node.CLASS_AGNOSTIC = False  # let instances of different classes suppress each other
    return node
