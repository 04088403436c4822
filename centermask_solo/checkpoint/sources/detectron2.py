"""ImageNet ResNets and ResNeXts of Detectron2's model zoo: under Caffe2's names (MSRA, FAIR), and under its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .centermask2 import RESNEXT_FORMAT
from .source import (
    BATCH_COUNTER,
    BGR_CENTERED,
    CLASSIFIER,
    PARAMETER,
    RGB_STANDARDIZED,
    Drop,
    PixelFormat,
    Source,
    has_names,
    renamed,
    table,
)

CAFFE2_NAME = "ResNet of Detectron2's model zoo in Caffe2's names (MSRA, FAIR; ImageNet)"
NAME = "ResNet in Detectron2's names (ImageNet)"
# The only bias of a convolution among Caffe2's names.
STEM_BIAS = Drop(
    "the bias of the first convolution, which Detectron2's networks leave out, in training as in prediction"
)
TRAINING_STATE = Drop("the state of its training")
DETECTOR_MARKS = ("conv_rpn_w", "conv_rpn_fpn2_w", "cls_score_w", "bbox_pred_w")


def _detectron2_name(match: re.Match[str]) -> str:
    from detectron2.checkpoint.c2_model_loading import convert_basic_c2_names  # slow to import

    return convert_basic_c2_names([match[0]])[0]


CAFFE2_NAMES = table(
    (r"(?:fc1000|pred)_[wb]", CLASSIFIER),
    (r"conv1_b", STEM_BIAS),
    (r"lr|model_iter|weight_order", TRAINING_STATE),
    (
        r"(?:conv1|res_conv1|res[2-5]_\d+_branch(?:1|2[abc]))"
        r"_(?:w|bn_(?:s|b|rm|riv|gamma|beta|running_mean|running_var)|gn_[sb])",
        _detectron2_name,
    ),
)
NAMES = table(
    (r".+\.num_batches_tracked", BATCH_COUNTER),
    (rf"(?:stem\.fc|linear)\.{PARAMETER}", CLASSIFIER),
    (r"stem\.conv1\.(?:weight|norm\.\w+)", r"\g<0>"),
    (r"res[2-5]\.\d+\.(?:conv[123]|shortcut)\.(?:weight|norm\.\w+)", r"\g<0>"),
)


def _caffe2_format(values: Mapping[str, Any]) -> PixelFormat:
    """Return the format of a ResNeXt, whose 3x3 convolutions are grouped, or of a ResNet."""
    conv = values.get("res2_0_branch2b_w")
    return RESNEXT_FORMAT if conv is not None and conv.shape[0] != conv.shape[1] else BGR_CENTERED


def _format(values: Mapping[str, Any]) -> PixelFormat | None:
    """Return torchvision's format if Detectron2's converter, which moves the classifier to the stem, wrote the file."""
    return RGB_STANDARDIZED if "stem.fc.weight" in values else None


CAFFE2 = Source(
    CAFFE2_NAME,
    "",
    lambda values: (
        has_names("conv1_w", "res2_0_branch2a_w")(values) and not any(mark in values for mark in DETECTOR_MARKS)
    ),
    renamed(CAFFE2_NAMES, CAFFE2_NAME),
    _caffe2_format,
)
SOURCE = Source(NAME, "", has_names("stem.conv1.weight", "res2.0.conv1.weight"), renamed(NAMES, NAME), _format)
