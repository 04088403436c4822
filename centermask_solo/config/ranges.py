"""The values that options allow: one table for this package's options and for those of Detectron2 that it reads."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from detectron2.config import CfgNode

from ..utils.errors import ConfigError
from ..utils.rules import (
    COUNT,
    NAME,
    NAMES,
    NUMBER,
    POSITIVE,
    PROBABILITY,
    SHARE,
    SOME_NAMES,
    THRESHOLD,
    Rule,
    ascending,
    at_least,
    between,
    each,
    integer,
    one_of,
    unless,
)
from .trees import flatten

_PAIR = Rule(
    "a pair of numbers, the first one less than the second",
    lambda value: each(at_least(0), length=2).allows(value) and value[0] < value[1],
)
_SCALES = Rule(
    "two numbers above 0, the first one not greater than the second",
    lambda value: each(POSITIVE, length=2).allows(value) and value[0] <= value[1],
)
_AREAS = Rule(f"{_SCALES.text}, which is at most 1", lambda value: _SCALES.allows(value) and value[1] <= 1)
_DATASET = Rule("[name, annotation file, image folder]", each(NAME, length=3).allows)
_ARGUMENT = Rule(
    "[name, value]",
    lambda value: isinstance(value, list | tuple) and len(value) == 2 and NAME.allows(value[0]),
)
_FACTOR = Rule(
    "[pattern, factor of at least 0]",
    lambda value: _ARGUMENT.allows(value) and at_least(0).allows(value[1]),
)
_NORMS = ("FrozenBN", "BN", "SyncBN")
_CONV_BODIES = [f"V-{size}-eSE" for size in ("19-slim-dw", "19-dw", "19-slim", "19", "39", "57", "99")]
_SCHEDULERS = ("WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR")
_SAMPLERS = ("TrainingSampler", "RepeatFactorTrainingSampler", "RandomSubsetTrainingSampler")

# The first pattern that matches the name of an option applies. Booleans need no rule: their type is checked.
RULES: dict[str, Rule] = {
    # --- Training ---
    "SOLVER.IMS_PER_BATCH": COUNT,
    "SOLVER.MAX_ITER": COUNT,
    "SOLVER.CHECKPOINT_PERIOD": COUNT,
    "SOLVER.BASE_LR": POSITIVE,
    "SOLVER.BASE_LR_END": at_least(0),
    "SOLVER.LR_FACTORS": each(_FACTOR),
    "SOLVER.*LR_FACTOR": unless(None, at_least(0)),
    "SOLVER.WEIGHT_DECAY*": unless(None, at_least(0)),
    "SOLVER.MOMENTUM": THRESHOLD,
    "SOLVER.GAMMA": POSITIVE,
    "SOLVER.STEPS": ascending(COUNT),
    "SOLVER.NUM_DECAYS": COUNT,
    "SOLVER.WARMUP_FACTOR": between(0, 1),
    "SOLVER.WARMUP_ITERS": integer(0),
    "SOLVER.WARMUP_METHOD": one_of("linear", "constant"),
    "SOLVER.LR_SCHEDULER_NAME": one_of(*_SCHEDULERS),
    "SOLVER.REFERENCE_WORLD_SIZE": integer(0),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": one_of("value", "norm", "full_model"),
    "SOLVER.CLIP_GRADIENTS.*": POSITIVE,
    "SOLVER.OPTIMIZER": one_of("SGD", "AdamW"),
    "SOLVER.ACCUMULATE": COUNT,
    "SOLVER.TRACKERS": each(one_of("wandb", "mlflow")),
    "TEST.PICTURES": integer(0),
    "SOLVER.REPORT_ITERATIONS": integer(0),
    "SOLVER.*EPOCHS": integer(0),
    "TEST.EVAL_EPOCHS": integer(0),
    "TEST.PATIENCE": integer(0),
    "MODEL.FREEZE": each(NAME),
    "SOLVER.AMP.DTYPE": one_of("auto", "bfloat16", "float16"),
    "SEED": integer(-1, 2**31 - 1),
    "VIS_PERIOD": integer(0),
    "OUTPUT_DIR": NAME,
    # --- Data ---
    "DATALOADER.NUM_WORKERS": integer(0),
    "DATALOADER.SAMPLER_TRAIN": one_of(*_SAMPLERS),
    "DATALOADER.REPEAT_THRESHOLD": at_least(0),
    "DATALOADER.RANDOM_SUBSET_RATIO": SHARE,
    "DATASETS.COCO_JSON": each(_DATASET),
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_*": COUNT,
    "DATASETS.PROPOSAL_FILES_*": each(NAME),
    "DATASETS.*": NAMES,
    # --- Input ---
    "INPUT.MIN_SIZE_TRAIN": each(integer(0), minimum=1),
    "INPUT.MIN_SIZE_TEST": integer(0),
    "INPUT.MAX_SIZE_*": COUNT,
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": one_of("choice", "range"),
    "INPUT.RANDOM_FLIP": one_of("none", "horizontal", "vertical"),
    "INPUT.CROP.TYPE": one_of("relative", "relative_range", "absolute", "absolute_range"),
    "INPUT.CROP.SIZE": each(POSITIVE, length=2),
    "INPUT.FORMAT": one_of("BGR", "RGB", "L", "YUV-BT.601"),
    "INPUT.CHANNELS": COUNT,
    "INPUT.MASK_FORMAT": one_of("polygon", "bitmask"),
    "INPUT.AUGMENTATION": one_of("default", "ssd"),
    "INPUT.MIN_BOX_SIZE": at_least(0),
    "INPUT.MAX_IMAGE_PIXELS": integer(0),
    "INPUT.SSD.MAX_EXPAND": at_least(1),
    "INPUT.LSJ.SCALES": _SCALES,
    "INPUT.LSJ.SIZE": COUNT,
    "INPUT.COLOR": one_of("none", "weak", "medium", "strong"),
    "INPUT.ERASE.AREA": _AREAS,
    "INPUT.*.PROB": between(0, 1),
    "INPUT.COPY_PASTE.MAX_OBJECTS": COUNT,
    "INPUT.MOSAIC.OFF": between(0, 1),
    "INPUT.SSD.MIN_CROP": SHARE,
    "MODEL.EMA.DECAY": THRESHOLD,
    "MODEL.PIXEL_MEAN": each(NUMBER, minimum=1),
    "MODEL.PIXEL_STD": each(POSITIVE, minimum=1),
    # --- Evaluation ---
    "TEST.DETECTIONS_PER_IMAGE": COUNT,
    "TEST.EVAL_PERIOD": integer(0),
    "TEST.KEEP_BEST": unless(
        "", Rule('a metric such as "segm/AP"', lambda value: isinstance(value, str) and "/" in value)
    ),
    "TEST.INT8_RANGES": Rule("the path of a file", lambda value: isinstance(value, str)),
    "TEST.DTYPE": one_of("float32", "bfloat16", "float16", "int8"),
    "TEST.EVAL_BACKEND": one_of("auto", "hotcoco", "faster-coco-eval", "detectron2", "pycocotools"),
    "TEST.AUG.MIN_SIZES": each(COUNT, minimum=1),
    "TEST.AUG.MAX_SIZE": COUNT,
    "TEST.KEYPOINT_OKS_SIGMAS": each(POSITIVE),
    "TEST.PRECISE_BN.NUM_ITER": COUNT,
    # --- Backbones ---
    "MODEL.BACKBONE.FREEZE_AT": integer(0),
    "MODEL.FPN.OUT_CHANNELS": COUNT,
    "MODEL.FPN.FUSE_TYPE": one_of("sum", "avg"),
    "MODEL.FPN.IN_FEATURES": NAMES,
    "MODEL.RESNETS.DEPTH": one_of(18, 34, 50, 101, 152),
    "MODEL.RESNETS.RES5_DILATION": one_of(1, 2, 4),
    "MODEL.RESNETS.OUT_FEATURES": NAMES,
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": each(one_of(True, False), length=4),
    "MODEL.RESNETS.NORM": NAME,
    "MODEL.RESNETS.STEM_TYPE": one_of("basic", "deep"),
    "MODEL.RESNETS.*": COUNT,
    "MODEL.*.OUT_FEATURES": SOME_NAMES,
    "MODEL.DARKNET.NORM": one_of(*_NORMS, "BNFrom6"),
    "MODEL.MOBILENETV2.NORM": one_of(*_NORMS),
    "MODEL.TIMM.NAME": NAME,
    "MODEL.TIMM.NORM": one_of(*_NORMS),
    "MODEL.TIMM.ARGUMENTS": each(_ARGUMENT),
    "MODEL.VOVNET.NORM": one_of(*_NORMS, "GN"),
    "MODEL.VOVNET.CONV_BODY": one_of(*_CONV_BODIES),
    "MODEL.VOVNET.DEFORM_ON_PER_STAGE": each(one_of(True, False), length=4),
    "MODEL.VOVNET.DEFORM_NUM_GROUPS": COUNT,
    "MODEL.FCOS.NORM": one_of("GN", "none"),
    "MODEL.SOLO*.NORM": one_of("GN", "none"),
    "MODEL.*.NORM": one_of("", *_NORMS, "GN", "LN", "nnSyncBN", "naiveSyncBN", "naiveSyncBN_N"),
    # --- Options that have one name in several systems ---
    "MODEL.*.NMS.NAME": NAME,  # users can register rules of their own
    "MODEL.*.NMS.KERNEL": one_of("gaussian", "linear"),
    "MODEL.*.NMS.SIGMA": POSITIVE,
    "MODEL.*.NMS.TOPK": COUNT,
    "MODEL.*.NMS.IOU_THRESH": between(0, 1),
    "MODEL.*.NMS.*SCORE_THRESH": THRESHOLD,
    "MODEL.*.LOSS.FOCAL_ALPHA": between(0, 1),
    "MODEL.*.LOSS.FOCAL_GAMMA": at_least(0),
    "MODEL.*.LOSS.*_WEIGHT": at_least(0),
    "MODEL.*.LEVEL_ASSIGNMENT": one_of("ratio", "area"),
    "MODEL.*.PRIOR_PROB": PROBABILITY,
    "MODEL.*.IN_FEATURES": SOME_NAMES,
    "MODEL.*.SCORE_THRESH_*": THRESHOLD,
    "MODEL.*.MASK_THRESH_TEST": THRESHOLD,
    "MODEL.*.MASK_IOU.MIN_AREA": integer(0),
    "MODEL.*.MASK_IOU.EXPONENT": at_least(0),
    "MODEL.*.MASK_IOU.NUM_CONVS": integer(0),
    "MODEL.*.MASK_IOU.CONV_DIM": COUNT,
    "MODEL.*.NMS_THRESH*": between(0, 1),
    "MODEL.*.POSITIVE_FRACTION": between(0, 1),
    "MODEL.*.BATCH_SIZE_PER_IMAGE": COUNT,
    "MODEL.*.POOLER_RESOLUTION": COUNT,
    "MODEL.*.POOLER_SAMPLING_RATIO": integer(0),
    "MODEL.*.PRE_NMS_TOPK_*": COUNT,
    "MODEL.*.POOLER_TYPE": one_of("ROIAlignV2", "ROIAlign", "ROIPool"),
    "MODEL.*LOSS_WEIGHT": at_least(0),
    "MODEL.*.IOU_THRESHOLDS": each(between(0, 1), minimum=1),
    "MODEL.ANCHOR_GENERATOR.SIZES": each(each(POSITIVE, minimum=1), minimum=1),
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": each(each(POSITIVE, minimum=1), minimum=1),
    "MODEL.ANCHOR_GENERATOR.OFFSET": THRESHOLD,
    "MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT": integer(0),
    "MODEL.PANOPTIC_FPN.COMBINE.*_THRESH": between(0, 1),
    "MODEL.SEM_SEG_HEAD.COMMON_STRIDE": COUNT,
    # --- FCOS ---
    "MODEL.*.NUM_CLASSES": integer(0),  # 0: that of the data
    "MODEL.FCOS.SIZES_OF_INTEREST": ascending(POSITIVE),
    "MODEL.FCOS.TOP_LEVELS": integer(0, 2),
    "MODEL.FCOS.NUM_*_CONVS": integer(0),
    "MODEL.FCOS.POS_RADIUS": POSITIVE,
    "MODEL.FCOS.LOSS.BOX_TYPE": one_of("giou", "iou", "linear_iou"),
    "MODEL.FCOS.POST_NMS_TOPK_*": unless(-1, COUNT),
    "MODEL.RPN.POST_NMS_TOPK_*": COUNT,
    # --- SOLO and SOLOv2 ---
    "MODEL.SOLO.HEAD": one_of("plain", "decoupled", "decoupled_light"),
    "MODEL.SOLO*.STRIDES": each(COUNT, minimum=1),
    "MODEL.SOLO*.NUM_GRIDS": each(COUNT, minimum=1),
    "MODEL.SOLO*.SCALE_RANGES": each(_PAIR, minimum=1),
    "MODEL.SOLO*.SIGMA": POSITIVE,
    "MODEL.SOLO*.COORDINATE_INIT": POSITIVE,
    "MODEL.SOLO*.DROP_BLOCK.PROB": THRESHOLD,
    "MODEL.SOLO*.DROP_BLOCK.SIZE": Rule("an odd number", lambda value: COUNT.allows(value) and value % 2 == 1),
    "MODEL.SOLO*.DEFORM_IN_INSTANCE": one_of("none", "last", "all"),
    "MODEL.SOLO*.MASK_IN_FEATURES": SOME_NAMES,
    # --- YOLACT ---
    "MODEL.YOLACT.PROTO_FEATURE": NAME,
    "MODEL.YOLACT.*_IOU": between(0, 1),
    "MODEL.YOLACT.CROWD_IOA": between(0, 1),
    "MODEL.YOLACT.OHEM_RATIO": at_least(0),
    "MODEL.YOLACT.MASKS_TO_TRAIN": COUNT,
    # --- R-CNN ---
    "MODEL.RCNN.SEARCH_MODE": one_of("fast", "single"),
    "MODEL.RCNN.IN_FEATURE": NAME,
    "MODEL.RCNN.CONTEXT": integer(0),
    "MODEL.RCNN.*_IOU": between(0, 1),
    "MODEL.RCNN.FIT.MAX_IMAGES": integer(0),
    "MODEL.RCNN.FIT.SVM_C": POSITIVE,
    "MODEL.RCNN.FIT.SVM_POSITIVE_WEIGHT": POSITIVE,
    "MODEL.RCNN.FIT.RIDGE": POSITIVE,
    "MODEL.RCNN.FIT.CACHE_GB": at_least(0),
    "MODEL.RCNN.*": COUNT,
    # --- The rest: counts, widths and sizes ---
    "MODEL.*.NUM_KEYPOINTS": COUNT,
    "MODEL.*.NUM_CONV*": integer(0),
    "MODEL.*.NUM_FC": integer(0),
    "MODEL.*CONV*_DIM": COUNT,
    "MODEL.SOLO*.*": COUNT,
    "MODEL.YOLACT.*": COUNT,
}


@functools.cache
def find_rule(key: str) -> Rule | None:
    """Return the rule of an option by its full name, or None if it has none."""
    return next((rule for pattern, rule in RULES.items() if fnmatchcase(key, pattern)), None)


def check_values(cfg: CfgNode) -> None:
    """Raise ConfigError if a value is outside of what its option allows, or any number is not finite."""
    for key, value in flatten(cfg).items():
        rule = find_rule(key)
        if rule is not None and not isinstance(value, bool) and not rule.allows(value):
            raise ConfigError(f"{key} must be {rule.text}, not {_text(value)}")
        if not all(map(math.isfinite, _floats(value))):
            raise ConfigError(f"{key} must be finite, not {value}")


def _floats(value: Any) -> Iterator[float]:
    """Yield the floating-point numbers in a value and in its nested lists."""
    if isinstance(value, float):
        yield value
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _floats(entry)


def _text(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
