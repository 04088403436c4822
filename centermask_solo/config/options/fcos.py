"""FCOS (arXiv 1904.01355), alone or as the detector of CenterMask."""

from __future__ import annotations

from detectron2.config import CfgNode

from .nms import nms_node


def add_options(cfg: CfgNode) -> None:
    """Add FCOS's options to ``cfg``. Defaults follow CenterMask2."""
    node = cfg.MODEL.FCOS = CfgNode()
    node.NUM_CLASSES = 0  # 0: MODEL.ROI_HEADS.NUM_CLASSES; any other number must equal it

    # --- Levels ---
    node.IN_FEATURES = ["p3", "p4", "p5", "p6", "p7"]  # levels, each with its own range of distances
    node.SIZES_OF_INTEREST = [64, 128, 256, 512]  # bounds between levels: largest distance to a side, input pixels
    node.TOP_LEVELS = 2  # levels that the backbone builders append to the FPN: 0, 1 (P6) or 2 (P6 and P7)

    # --- Head ---
    node.NUM_CLASS_CONVS = 4  # convolutions of the class tower
    node.NUM_BOX_CONVS = 4  # convolutions of the box tower
    node.NUM_SHARED_CONVS = 0  # convolutions ahead of both towers
    node.NORM = "GN"  # normalization of the towers: "GN" (32 groups) or "none"
    node.USE_SCALE = True  # scale each level's box distances by a learned factor
    node.USE_DEFORMABLE = False  # use modulated deformable convolutions in the shared and the box tower
    node.PRIOR_PROB = 0.01  # class probability at initialization

    # --- Targets and losses ---
    node.CENTER_SAMPLE = True  # restrict positives to the center of a box; False: all locations inside it
    node.POS_RADIUS = 1.5  # half side of that center region, in strides
    node.LOSS = CfgNode()
    node.LOSS.FOCAL_ALPHA = 0.25  # weight of positives in the focal loss
    node.LOSS.FOCAL_GAMMA = 2.0  # exponent of the focal loss
    node.LOSS.BOX_TYPE = "giou"  # box loss: "giou", "iou" or "linear_iou"
    # weight of a semantic segmentation of the finest level, an auxiliary loss of training that needs masks; 0 for none
    node.LOSS.SEM_SEG_WEIGHT = 0.0

    # --- Decoding, also of the proposals in training ---
    node.SCORE_THRESH_TRAIN = 0.05  # minimum class probability, exclusive
    node.SCORE_THRESH_TEST = 0.05  # minimum class probability, exclusive
    node.THRESH_WITH_CENTERNESS = False  # compare class probability times centerness with the threshold
    node.PRE_NMS_TOPK_TRAIN = 1000  # candidates per image and level
    node.PRE_NMS_TOPK_TEST = 1000  # candidates per image and level
    node.POST_NMS_TOPK_TRAIN = 100  # boxes per image
    node.POST_NMS_TOPK_TEST = 100  # boxes per image; CenterMask's published models use 50
    node.NMS = nms_node("BatchedNMS", iou_thresh=0.6)  # compares boxes
