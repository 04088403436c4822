"""CenterMask (arXiv 1911.06667)."""

from __future__ import annotations

from detectron2.config import CfgNode


def add_options(cfg: CfgNode) -> None:
    """Add the options of CenterMask's RoI heads to ``cfg``. Defaults follow CenterMask2's published configs."""
    # --- RoI heads ---
    cfg.MODEL.ROI_MASK_HEAD.LEVEL_ASSIGNMENT = "ratio"  # level of an RoI, by area "ratio" to the image or FPN's "area"
    cfg.MODEL.ROI_KEYPOINT_HEAD.LEVEL_ASSIGNMENT = "ratio"  # the same for keypoints
    node = cfg.MODEL.CENTERMASK = CfgNode()
    # paste a mask into its whole box; False: squeeze it into the part of the box inside the image, as the authors do
    node.PASTE_UNCLIPPED = False

    # --- Mask IoU head ---
    node.MASK_IOU = CfgNode()
    node.MASK_IOU.ENABLED = False  # predict the IoU of masks and rank them by score x IoU; on in all published models
    # power of the IoU in that product: less than 1 after short trainings, whose scores are close to each other
    node.MASK_IOU.EXPONENT = 1.0
    node.MASK_IOU.CONV_DIM = 256  # width, as MODEL.ROI_MASK_HEAD.CONV_DIM
    node.MASK_IOU.NUM_CONVS = 4  # convolutions, as MODEL.ROI_MASK_HEAD.NUM_CONV
    node.LOSS = CfgNode()
    node.LOSS.MASK_IOU_WEIGHT = 1.0  # weight of the loss of the mask IoU head
