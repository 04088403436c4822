"""YOLACT (arXiv 1904.02689) and YOLACT++ (arXiv 1912.06218)."""

from __future__ import annotations

from detectron2.config import CfgNode

from .nms import nms_node


def add_options(cfg: CfgNode) -> None:
    """Add YOLACT's options to ``cfg``. Defaults follow the authors' code.

    ``MODEL.ANCHOR_GENERATOR`` defines the anchors: ``SIZES`` in pixels of the network input and ``ASPECT_RATIOS`` as
    height over width, one list per level or one for all.
    """
    node = cfg.MODEL.YOLACT = CfgNode()
    node.NUM_CLASSES = 80  # foreground classes; 0 or "auto": those of the data that it is trained on

    # --- Networks ---
    node.INPUT_SIZE = 550  # pixels; the model resizes every image to a square of this side
    node.IN_FEATURES = ["p3", "p4", "p5", "p6", "p7"]  # levels of the prediction head
    node.PROTO_FEATURE = "p3"  # level of the prototypes, which have twice its size, and of the semantic segmentation
    node.NUM_PROTOTYPES = 32  # also the number of mask coefficients
    # make anchors square regardless of their aspect ratio: a slip in the authors' code that the COCO weights of
    # YOLACT (not YOLACT++) were trained with
    node.SQUARE_ANCHORS = False

    # --- Targets and losses ---
    node.POSITIVE_IOU = 0.5  # an anchor is positive from this IoU with an object on
    node.NEGATIVE_IOU = 0.4  # an anchor is background below this IoU with every object, and ignored in between
    node.CROWD_IOA = 0.7  # background anchors with more than this share of their area inside a crowd are ignored
    node.OHEM_RATIO = 3  # mined negatives per positive
    node.MASKS_TO_TRAIN = 100  # positives per image in the mask loss, drawn at random if there are more
    node.LOSS = CfgNode()
    node.LOSS.BOX_WEIGHT = 1.5  # weight of the smooth L1 loss
    node.LOSS.CLASS_WEIGHT = 1.0  # weight of the cross entropy
    node.LOSS.MASK_WEIGHT = 6.125  # weight of the binary cross entropy of masks
    node.LOSS.SEM_SEG_WEIGHT = 1.0  # weight of the semantic segmentation, an auxiliary loss; 0 for none
    node.LOSS.MASK_IOU_WEIGHT = 25.0  # weight of the loss of the mask IoU head

    # --- Mask IoU head (YOLACT++) ---
    node.MASK_IOU = CfgNode()
    node.MASK_IOU.ENABLED = False  # predict the IoU of masks and rank them by score x IoU
    node.MASK_IOU.MIN_AREA = 25  # masks of at most this many pixels, at the prototypes' size, do not train it

    # --- Inference ---
    node.SCORE_THRESH_TEST = 0.05  # minimum of an anchor's best class probability, exclusive
    # candidates per image (FastNMS and TraditionalNMS per class take all); TEST.DETECTIONS_PER_IMAGE limits the results
    node.PRE_NMS_TOPK_TEST = 1000
    node.NMS = nms_node("FastNMS", iou_thresh=0.5)  # compares boxes
