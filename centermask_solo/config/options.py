"""Every option that this package adds to Detectron2's config: meaning, unit, default and source.

``[adet]`` is AdelaiDet's SOLOv2, ``[solo]`` the authors' original, whose published models the defaults follow.
"""

from __future__ import annotations

import torch
from detectron2.config import CfgNode


def add_centermask_solo_config(cfg: CfgNode) -> None:
    """Add the options of all systems to ``cfg``, in place; Detectron2's own defaults elsewhere stay as they are.

    ``MODEL.DEVICE`` becomes "cpu" where no GPU is usable, so that every command runs on such a machine by itself.
    """
    if not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    _add_training(cfg)
    _add_datasets(cfg)
    _add_input(cfg)
    _add_backbones(cfg)
    _add_solov2(cfg)
    _add_fcos(cfg)
    _add_centermask(cfg)
    _add_yolact(cfg)


def _nms_node(name: str, iou_thresh: float) -> CfgNode:
    """The options of the NMS plug-ins (``modeling/instance_nms.py``): one schema for all systems."""
    node = CfgNode()
    node.NAME = name  # "MatrixNMS", "MaskNMS", "BatchedNMS", "FastNMS" or "TraditionalNMS"
    node.IOU_THRESH = iou_thresh  # all but MatrixNMS: an overlap above it suppresses (TraditionalNMS: at it, too)
    node.KERNEL = "gaussian"  # MatrixNMS: "gaussian" or "linear"
    node.SIGMA = 2.0  # MatrixNMS, gaussian: decay exp(-SIGMA * iou^2), that is 1 / sigma of the paper
    # MatrixNMS: smallest decayed score that is kept ([adet] UPDATE_THR); TraditionalNMS: class score, strictly above
    node.SCORE_THRESH = 0.05
    node.TOPK = 200  # FastNMS: instances of a class that are compared, the best ones
    node.CLASS_SCORE_THRESH = 0.0  # FastNMS: score in the class itself, strictly above; 0 for published figures
    node.CLASS_AGNOSTIC = False  # instances of different classes suppress each other too
    return node


def _add_training(cfg: CfgNode) -> None:
    """Options of training and prediction that all systems share."""
    # Weights of convolutions, and so their outputs, in memory as (N, H, W, C): the same numbers up to rounding, about
    # twice as fast in training on a CPU and with mixed precision on a GPU.
    cfg.MODEL.CHANNELS_LAST = True
    # "SGD" (all published recipes) or "AdamW", which gets further in a short training from few pretrained parameters
    cfg.SOLVER.OPTIMIZER = "SGD"


def _add_datasets(cfg: CfgNode) -> None:
    """Own data without writing Python."""
    # [[name, json, folder of images], ...]: COCO annotation files, which DATASETS.TRAIN and .TEST may name then
    cfg.DATASETS.COCO_JSON = []


def _add_input(cfg: CfgNode) -> None:
    """How images and their truth are prepared for training."""
    # "default": Detectron2's resizing, flipping and cropping. "ssd": that of SSD as in YOLACT's code, with flips as
    # RANDOM_FLIP says, to the square of the network's input (data/augmentation.py); for YOLACT alone
    cfg.INPUT.AUGMENTATION = "default"
    cfg.INPUT.KEEP_CROWDS = False  # crowds reach the model as objects with gt_is_crowd, which YOLACT has a use for
    # Objects narrower or lower than this after augmentation are left out, pixels; 0: only those without extent
    cfg.INPUT.MIN_BOX_SIZE = 0.0

    node = cfg.INPUT.SSD = CfgNode()
    node.PHOTOMETRIC = True  # brightness, contrast, saturation and hue change at random
    node.MAX_EXPAND = 4.0  # sides of the canvas that every second image is put on, relative to the image's; 1: none
    node.MIN_CROP = 0.3  # shortest sides of a random crop, relative to the canvas's; 1: no crops


def _add_backbones(cfg: CfgNode) -> None:
    """Backbones beyond Detectron2's; [cm2] is CenterMask's code, whose names these are.

    ``MODEL.RESNETS.NORM`` of the builders ``build_deform_resnet...`` and ``build_resnet_yolact...`` may also be
    "FixedStatsBN" or "BNFrom6".
    """
    # YOLACT++: in stages with deformable blocks every so many-th block is one, the first included; 1 for all of them
    cfg.MODEL.RESNETS.DEFORM_INTERVAL = 1

    node = cfg.MODEL.DARKNET = CfgNode()  # DarkNet-53
    node.OUT_FEATURES = ["stage3", "stage4", "stage5"]  # strides 8, 16, 32; also "stage1", 2, and "stage2", 4
    node.NORM = "BNFrom6"  # "FrozenBN", "BN", "SyncBN" or "BNFrom6": BN from 6 images a process on, else FrozenBN

    node = cfg.MODEL.MOBILENETV2 = CfgNode()  # its outputs are named by MODEL.RESNETS.OUT_FEATURES, as in [cm2]
    node.NORM = "FrozenBN"  # "FrozenBN", "BN" or "SyncBN"

    node = cfg.MODEL.VOVNET = CfgNode()
    node.CONV_BODY = "V-39-eSE"  # V-{19-slim-dw,19-dw,19-slim,19,39,57,99}-eSE
    node.OUT_FEATURES = ["stage2", "stage3", "stage4", "stage5"]  # strides 4, 8, 16, 32; also "stem", 4
    node.NORM = "FrozenBN"  # "FrozenBN", "BN", "SyncBN" or "GN"
    node.STAGE_WITH_DCN = [False, False, False, False]  # stages 2 to 5: are all 3x3 layers deformable
    node.WITH_MODULATED_DCN = False  # DCNv2, else DCN v1
    node.DEFORMABLE_GROUPS = 1
    for old in ("OUT_CHANNELS", "BACKBONE_OUT_CHANNELS"):
        cfg.register_deprecated_key(f"MODEL.VOVNET.{old}")  # [cm2]'s files name them; nothing depends on them


def _add_solov2(cfg: CfgNode) -> None:
    """SOLOv2 (arXiv 2003.10152). Names and defaults as in [adet], where [adet] has the option."""
    node = cfg.MODEL.SOLOV2 = CfgNode()
    node.NUM_CLASSES = 80  # foreground classes: the one place where SOLOv2's number of classes is set

    # Instance head: a grid of cells a level
    node.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    node.STRIDES = [8, 8, 16, 32, 32]  # of the levels; also each level's smallest mask, in stride-4 pixels
    node.SCALE_RANGES = ((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048))  # sqrt(box area), input pixels
    node.NUM_GRIDS = [40, 36, 24, 16, 12]  # cells a side of each level
    node.SIGMA = 0.2  # side of the centre region relative to the box
    node.INSTANCE_CHANNELS = 512  # width of both towers
    node.NUM_INSTANCE_CONVS = 4  # convolutions in each tower
    node.NORM = "GN"  # of both heads: "GN" or "none"
    node.PRIOR_PROB = 0.01  # class probability at initialization
    # Deformable convolutions: "none", "last" (of each tower: Light-512-DCN) or "all" (R-101-DCN, X-101-DCN)
    node.DCN_IN_INSTANCE = "none"
    node.DCN_IN_MASK = False  # all convolutions of the mask head, the final 1x1 included (R-101-DCN, X-101-DCN)
    node.TYPE_DCN = "DCNv2"  # "DCN" (v1) or "DCNv2" (modulated)

    # Mask feature head
    node.MASK_IN_FEATURES = ["p2", "p3", "p4", "p5"]
    node.MASK_CHANNELS = 128  # its width
    node.NUM_MASKS = 256  # length E of a kernel = channels of the mask features

    # Losses
    node.LOSS = CfgNode()
    node.LOSS.FOCAL_ALPHA = 0.25
    node.LOSS.FOCAL_GAMMA = 2.0
    node.LOSS.CLASS_WEIGHT = 1.0
    node.LOSS.MASK_WEIGHT = 3.0

    # Inference; TEST.DETECTIONS_PER_IMAGE limits the instances of an image
    node.SCORE_THRESH_TEST = 0.1  # class probability, strictly above
    node.PRE_NMS_TOPK_TEST = 500  # masks that enter NMS at most
    node.MASK_THRESH_TEST = 0.5  # probability of a mask's pixels, strictly above
    node.NMS = _nms_node("MatrixNMS", iou_thresh=0.5)

    for old, new in {
        "INSTANCE_IN_FEATURES": "MODEL.SOLOV2.IN_FEATURES",
        "FPN_INSTANCE_STRIDES": "MODEL.SOLOV2.STRIDES",
        "FPN_SCALE_RANGES": "MODEL.SOLOV2.SCALE_RANGES",
        "LOSS.FOCAL_WEIGHT": "MODEL.SOLOV2.LOSS.CLASS_WEIGHT",
        "LOSS.DICE_WEIGHT": "MODEL.SOLOV2.LOSS.MASK_WEIGHT",
        "SCORE_THR": "MODEL.SOLOV2.SCORE_THRESH_TEST",
        "NMS_PRE": "MODEL.SOLOV2.PRE_NMS_TOPK_TEST",
        "MASK_THR": "MODEL.SOLOV2.MASK_THRESH_TEST",
        "MAX_PER_IMG": "TEST.DETECTIONS_PER_IMAGE",
        "UPDATE_THR": "MODEL.SOLOV2.NMS.SCORE_THRESH",
        "NMS_TYPE": "MODEL.SOLOV2.NMS.NAME",
        "NMS_KERNEL": "MODEL.SOLOV2.NMS.KERNEL",
        "NMS_SIGMA": "MODEL.SOLOV2.NMS.SIGMA",
        "NUM_KERNELS": "MODEL.SOLOV2.NUM_MASKS",
        "USE_DCN_IN_INSTANCE": "MODEL.SOLOV2.DCN_IN_INSTANCE",
    }.items():
        cfg.register_renamed_key(f"MODEL.SOLOV2.{old}", new)
    for old in ("INSTANCE_IN_CHANNELS", "MASK_IN_CHANNELS", "USE_COORD_CONV", "LOSS.FOCAL_USE_SIGMOID"):
        cfg.register_deprecated_key(f"MODEL.SOLOV2.{old}")  # AdelaiDet's files name them; nothing depends on them


def _add_fcos(cfg: CfgNode) -> None:
    """FCOS (arXiv 1904.01355), alone and in CenterMask. [cm2] is CenterMask's code, whose defaults it has."""
    node = cfg.MODEL.FCOS = CfgNode()
    node.NUM_CLASSES = 0  # 0 means MODEL.ROI_HEADS.NUM_CLASSES; with CenterROIHeads no other number is allowed

    # Levels; SIZES_OF_INTEREST has one entry between each two levels
    node.IN_FEATURES = ["p3", "p4", "p5", "p6", "p7"]
    node.SIZES_OF_INTEREST = [64, 128, 256, 512]  # largest distance to a side that a level regresses, input pixels
    node.TOP_LEVELS = 2  # levels that the backbone builders add to the FPN: 2 for P6 and P7, 1 for P6, 0

    # Head
    node.NUM_CLASS_CONVS = 4
    node.NUM_BOX_CONVS = 4
    node.NUM_SHARED_CONVS = 0  # convolutions before the two towers part
    node.NORM = "GN"  # of the towers: "GN" (32 groups) or "none"
    node.USE_SCALE = True  # a learned factor a level on the box distances
    node.USE_DEFORMABLE = False  # modulated deformable convolutions in the shared and in the box tower
    node.PRIOR_PROB = 0.01  # class probability at initialization

    # Targets and losses
    node.CENTER_SAMPLE = True  # positives lie near the box's center; False: anywhere in the box
    node.POS_RADIUS = 1.5  # half side of that region, in strides
    node.LOSS = CfgNode()
    node.LOSS.FOCAL_ALPHA = 0.25  # focal loss
    node.LOSS.FOCAL_GAMMA = 2.0
    node.LOSS.BOX_TYPE = "giou"  # "giou", "iou" or "linear_iou"

    # Decoding, in training for the proposals
    node.SCORE_THRESH_TRAIN = 0.05  # class probability, strictly above
    node.SCORE_THRESH_TEST = 0.05
    node.THRESH_WITH_CENTERNESS = False  # class probability x centerness must pass the threshold
    node.PRE_NMS_TOPK_TRAIN = 1000  # candidates of an image and level
    node.PRE_NMS_TOPK_TEST = 1000
    node.POST_NMS_TOPK_TRAIN = 100  # boxes of an image
    node.POST_NMS_TOPK_TEST = 100  # the published models use 50
    node.NMS = _nms_node("BatchedNMS", iou_thresh=0.6)  # also of the proposals of training

    for old, new in {
        "NUM_CLS_CONVS": "NUM_CLASS_CONVS",
        "NUM_SHARE_CONVS": "NUM_SHARED_CONVS",
        "LOSS_ALPHA": "LOSS.FOCAL_ALPHA",
        "LOSS_GAMMA": "LOSS.FOCAL_GAMMA",
        "LOC_LOSS_TYPE": "LOSS.BOX_TYPE",
        "INFERENCE_TH_TRAIN": "SCORE_THRESH_TRAIN",
        "INFERENCE_TH_TEST": "SCORE_THRESH_TEST",
        "THRESH_WITH_CTR": "THRESH_WITH_CENTERNESS",
        "NMS_TH": "NMS.IOU_THRESH",
    }.items():
        cfg.register_renamed_key(f"MODEL.FCOS.{old}", f"MODEL.FCOS.{new}")
    for old in ("MODEL.FCOS.FPN_STRIDES", "MODEL.FCOS.USE_RELU", "MODEL.MOBILENET", "MODEL.ROI_MASKIOU_HEAD.NAME"):
        cfg.register_deprecated_key(old)  # [cm2]'s files may name them; nothing depended on them


def _add_centermask(cfg: CfgNode) -> None:
    """CenterMask (arXiv 1911.06667): RoI levels, masks and mask IoU. Names of the authors' code where it has them."""
    mask = cfg.MODEL.ROI_MASK_HEAD
    mask.LEVEL_ASSIGNMENT = "ratio"  # level of an RoI: "ratio" of its area to the image's; "area", FPN's own rule
    node = cfg.MODEL.CENTERMASK = CfgNode()
    node.PASTE_UNCLIPPED = False  # paste a mask into its whole box; False: squeezed into the part within the image

    node.MASK_IOU = CfgNode()
    node.MASK_IOU.ENABLED = False  # predict the masks' IoU, rank masks by score x IoU; on in all published models
    node.MASK_IOU.CONV_DIM = 256
    node.MASK_IOU.NUM_CONVS = 4
    node.LOSS = CfgNode()
    node.LOSS.MASK_IOU_WEIGHT = 1.0

    keypoint = cfg.MODEL.ROI_KEYPOINT_HEAD
    keypoint.IN_FEATURES = ["p3", "p4", "p5"]  # [cm2] says p2..p5, but no published pyramid has a p2
    keypoint.LEVEL_ASSIGNMENT = "ratio"

    for old, new in {
        "MASKIOU_ON": "MASK_IOU.ENABLED",
        "MASKIOU_LOSS_WEIGHT": "LOSS.MASK_IOU_WEIGHT",
        "ROI_MASKIOU_HEAD": "MASK_IOU",
        "ROI_MASKIOU_HEAD.CONV_DIM": "MASK_IOU.CONV_DIM",
        "ROI_MASKIOU_HEAD.NUM_CONV": "MASK_IOU.NUM_CONVS",
    }.items():
        cfg.register_renamed_key(f"MODEL.{old}", f"MODEL.CENTERMASK.{new}")
    for head in ("ROI_MASK_HEAD", "ROI_KEYPOINT_HEAD"):
        cfg.register_renamed_key(f"MODEL.{head}.ASSIGN_CRITERION", f"MODEL.{head}.LEVEL_ASSIGNMENT")


def _add_yolact(cfg: CfgNode) -> None:
    """YOLACT (arXiv 1904.02689) and YOLACT++ (arXiv 1912.06218). Defaults as in the authors' code.

    Anchors are set by ``MODEL.ANCHOR_GENERATOR``: ``SIZES`` in pixels of the network's input and ``ASPECT_RATIOS``,
    height over width, a list for each level or one for all.
    """
    node = cfg.MODEL.YOLACT = CfgNode()
    node.NUM_CLASSES = 80  # foreground classes: the one place where YOLACT's number of classes is set

    # Networks
    node.INPUT_SIZE = 550  # side of the square that the model resizes every image to, pixels
    node.IN_FEATURES = ["p3", "p4", "p5", "p6", "p7"]  # levels of the head
    node.PROTO_FEATURE = "p3"  # prototypes are computed from it, at twice its size; also the semantic segmentation
    node.NUM_PROTOTYPES = 32
    # Anchors of the ratios' widths, but as high as wide: a slip that the published COCO weights of YOLACT (not of
    # YOLACT++) were trained with
    node.SQUARE_ANCHORS = False
    node.MASK_IOU = CfgNode()
    node.MASK_IOU.ENABLED = False  # YOLACT++: predict the masks' IoU, rank masks by score x IoU

    # Targets and losses
    node.POSITIVE_IOU = 0.5  # anchors that overlap an object as much are positive
    node.NEGATIVE_IOU = 0.4  # anchors that overlap every object less are background; between the two they take no part
    node.CROWD_IOA = 0.7  # background anchors with a larger share inside a crowd take no part
    node.OHEM_RATIO = 3  # mined negatives to a positive
    node.MASKS_TO_TRAIN = 100  # positives of an image in the mask loss, drawn at random if there are more
    node.MASK_IOU.MIN_AREA = 25  # YOLACT++: true masks with more pixels, at the prototypes' size, train the mask IoU
    node.LOSS = CfgNode()
    node.LOSS.BOX_WEIGHT = 1.5
    node.LOSS.CLASS_WEIGHT = 1.0
    node.LOSS.MASK_WEIGHT = 6.125
    node.LOSS.SEM_SEG_WEIGHT = 1.0
    node.LOSS.MASK_IOU_WEIGHT = 25.0

    # Inference; TEST.DETECTIONS_PER_IMAGE limits the instances of an image
    node.SCORE_THRESH_TEST = 0.05  # best class probability of an anchor, strictly above
    node.PRE_NMS_TOPK_TEST = 1000  # candidates that enter NMS at most; FastNMS and TraditionalNMS by class take all
    node.NMS = _nms_node("FastNMS", iou_thresh=0.5)
