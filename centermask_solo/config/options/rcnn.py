"""R-CNN (arXiv 1311.2524), a baseline that detects boxes."""

from __future__ import annotations

from detectron2.config import CfgNode


def add_options(cfg: CfgNode) -> None:
    """Add R-CNN's options to ``cfg``. Defaults follow the paper where the comment says nothing else."""
    node = cfg.MODEL.RCNN = CfgNode()
    node.NUM_CLASSES = 80  # number of foreground classes

    # --- Regions ---
    # selective search of images without precomputed proposals: "fast", the paper's, or "single", a quarter of it
    node.SEARCH_MODE = "fast"
    node.REGION_SIZE = 224  # side of the square that a region is warped to, network input pixels; the paper has 227
    node.CONTEXT = 16  # pixels of the square, on each side, that show what surrounds the region
    node.REGIONS_PER_BATCH = 64  # regions that go through the network at once in inference; limits memory
    node.MAX_REGIONS_TEST = 2000  # regions of an image, the most promising first

    # --- Features ---
    node.IN_FEATURE = "res5"  # feature map of the backbone
    node.POOLED_SIZE = 2  # side of the grid that the map is averaged to; box regression sees its cells
    node.FC_DIM = 1024  # length of the features that regions are classified by; 4096 in the paper

    # --- Fine-tuning: classification of regions with a softmax ---
    node.BATCH_SIZE_PER_IMAGE = 64  # regions of an image; 128 in a batch of images in the paper
    node.POSITIVE_FRACTION = 0.25  # of them, at most
    node.POSITIVE_IOU = 0.5  # least IoU with an object of a region that is one

    # --- What is fitted after the fine-tuning ---
    node.FIT = CfgNode()
    node.FIT.MAX_IMAGES = 0  # training images that it uses, spread evenly; 0 for all
    node.FIT.SVM_C = 0.001  # weight of the hinge losses against the norm of an SVM
    node.FIT.SVM_POSITIVE_WEIGHT = 2.0  # weight of an object's loss relative to a negative's
    node.FIT.SVM_NEGATIVE_IOU = 0.3  # IoU with all objects of a class below which a region is a negative of it
    node.FIT.SVM_PASSES = 1  # passes over the images that look for hard negatives
    node.FIT.SVM_MAX_NEGATIVES = 20_000  # negatives of a class that are kept, the hardest; limits memory
    node.FIT.RIDGE = 1000.0  # weight of the norm in the regression of boxes
    node.FIT.RIDGE_IOU = 0.6  # least IoU with an object of a region that box regression learns from
    node.FIT.RIDGE_MAX_REGIONS = 10_000  # of a class, the first ones; limits memory
    node.FIT.CACHE_GB = 10.0  # most that features of regions take below OUTPUT_DIR/features; 0 to keep none

    # --- Detection ---
    # minimum score, exclusive; an SVM's margin m gives 1 / (1 + exp(-m)), so 0.25 is a margin of -1.1
    node.SCORE_THRESH_TEST = 0.25
    node.NMS_THRESH_TEST = 0.3  # IoU with a better box of its class from which on a box is a duplicate
