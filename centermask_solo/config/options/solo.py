"""SOLO and Decoupled SOLO (arXiv 1912.04488)."""

from __future__ import annotations

from detectron2.config import CfgNode

from .nms import nms_node


def add_options(cfg: CfgNode) -> None:
    """Add SOLO's options to ``cfg``. Defaults follow the original repository; names and meanings are SOLOv2's."""
    node = cfg.MODEL.SOLO = CfgNode()
    node.NUM_CLASSES = 80  # foreground classes; 0 or "auto": those of the data that it is trained on

    # --- Heads ---
    # how masks are predicted: "plain", a map per cell; "decoupled", a map per column and per row from two towers;
    # "decoupled_light", the same from one tower
    node.HEAD = "plain"
    node.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]  # one grid per level
    # levels are resized to these, multiples of 8; also their minimum mask areas, stride-4 pixels
    node.STRIDES = [8, 8, 16, 32, 32]
    # per level, sqrt(box area) of its objects, input pixels
    node.SCALE_RANGES = ((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048))
    node.NUM_GRIDS = [40, 36, 24, 16, 12]  # cells per side of each level's grid
    node.SIGMA = 0.2  # side of an object's center region relative to its box
    node.INSTANCE_CHANNELS = 256  # width of all towers
    node.NUM_INSTANCE_CONVS = 7  # convolutions per tower
    node.NORM = "GN"  # normalization of the towers: "GN" (32 groups) or "none"
    node.PRIOR_PROB = 0.01  # probability of a class, and of a mask's pixels, at initialization
    node.COORDINATE_INIT = 1.0  # factor of the initial weights of coordinates
    node.DEFORM_IN_INSTANCE = "none"  # deformable convolutions in the towers: "none", "last" (Light-DCN) or "all"
    node.DEFORM_MODULATED = False  # deformable convolutions of the towers; True: DCNv2, False: DCN v1
    node.DROP_BLOCK = CfgNode()  # DropBlock (arXiv 1810.12890) on the output of the towers, in training
    node.DROP_BLOCK.PROB = 0.0  # share that is zeroed; 0 for none
    node.DROP_BLOCK.SIZE = 3  # side of a zeroed block, cells of the grid (of mask towers: pixels of the level)

    # --- Losses ---
    node.LOSS = CfgNode()
    node.LOSS.FOCAL_ALPHA = 0.25  # weight of positives in the focal loss
    node.LOSS.FOCAL_GAMMA = 2.0  # exponent of the focal loss
    node.LOSS.CLASS_WEIGHT = 1.0  # weight of the focal loss
    node.LOSS.MASK_WEIGHT = 3.0  # weight of the Dice loss
    # weight of a semantic segmentation of the finest level, an auxiliary loss of training; 0 for none
    node.LOSS.SEM_SEG_WEIGHT = 0.0

    # --- Inference ---
    node.SCORE_THRESH_TEST = 0.1  # minimum class probability, exclusive
    node.PRE_NMS_TOPK_TEST = 500  # candidates per image; TEST.DETECTIONS_PER_IMAGE limits the results
    node.MASK_THRESH_TEST = 0.5  # minimum probability of a mask's pixels, exclusive
    node.NMS = nms_node("MatrixNMS", iou_thresh=0.5)  # compares masks
