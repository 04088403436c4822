"""Published YOLACT and YOLACT++ models, and the ImageNet DarkNet-53 that some start from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .source import (
    BACKBONE,
    BATCH_NORM,
    CLASSIFIER,
    PARAMETER,
    Drop,
    PixelFormat,
    Rename,
    Source,
    Translation,
    has_names,
    renamed,
    table,
    translate_names,
)

NAME = "YOLACT of the authors"
DARKNET_NAME = "DarkNet-53 of YOLACT's authors (ImageNet)"
RESNET_FORMAT = PixelFormat("RGB", (123.68, 116.78, 103.94), (58.40, 57.12, 57.38))
DARKNET_FORMAT = PixelFormat("RGB", (0.0, 0.0, 0.0), (255.0, 255.0, 255.0))

COPY = Drop("a second copy of layers that the file also has under 'backbone.layers', written by older versions")
UNUSED_LEVEL = Drop("a level of the pyramid that nothing uses, written by older versions")
FOLDED = "a bias in front of a batch norm: subtracted from its running mean, which has the same effect"


def _block(match: re.Match[str]) -> str:
    return f"{BACKBONE}res{int(match[1]) + 2}.{match[2]}"


def _darknet_rows(theirs: str, ours: str) -> tuple[tuple[str, Rename], ...]:
    """Return the rows of a table for a DarkNet-53; the arguments are those of ``resnet_rows``."""

    def stage(match: re.Match[str]) -> str:
        return f"{ours}stage{int(match[1]) + 1}"

    down = rf"{theirs}layers\.([0-4])\.0\."
    block = rf"{theirs}layers\.([0-4])\.([1-8])\.conv([12])\."
    return (
        (rf"{theirs}_preconv\.0\.weight", f"{ours}stem.conv1.weight"),
        (rf"{theirs}_preconv\.1\.{BATCH_NORM}", rf"{ours}stem.conv1.norm.\1"),
        (rf"{down}0\.weight", lambda m: f"{stage(m)}.downsample.weight"),
        (rf"{down}1\.{BATCH_NORM}", lambda m: f"{stage(m)}.downsample.norm.{m[2]}"),
        (rf"{block}0\.weight", lambda m: f"{stage(m)}.{int(m[2]) - 1}.conv{m[3]}.weight"),
        (rf"{block}1\.{BATCH_NORM}", lambda m: f"{stage(m)}.{int(m[2]) - 1}.conv{m[3]}.norm.{m[4]}"),
    )


# Every name in a published file matches exactly one row. Stages, levels and layers are counted differently here.
NAMES = table(
    # ResNet
    (r"backbone\.conv1\.weight", BACKBONE + "stem.conv1.weight"),
    (rf"backbone\.bn1\.{BATCH_NORM}", BACKBONE + r"stem.conv1.norm.\1"),
    (r"backbone\.layers\.([0-3])\.(\d+)\.conv([123])\.weight", lambda m: f"{_block(m)}.conv{m[3]}.weight"),
    (
        rf"backbone\.layers\.([0-3])\.(\d+)\.bn([123])\.{BATCH_NORM}",
        lambda m: f"{_block(m)}.conv{m[3]}.norm.{m[4]}",
    ),
    (r"backbone\.layers\.([0-3])\.(0)\.downsample\.0\.weight", lambda m: f"{_block(m)}.shortcut.weight"),
    (
        rf"backbone\.layers\.([0-3])\.(0)\.downsample\.1\.{BATCH_NORM}",
        lambda m: f"{_block(m)}.shortcut.norm.{m[3]}",
    ),
    (
        rf"backbone\.layers\.([0-3])\.(\d+)\.conv2\.conv_offset_mask\.{PARAMETER}",
        lambda m: f"{_block(m)}.conv2_offset.{m[3]}",
    ),
    *_darknet_rows(r"backbone\.", BACKBONE),
    # the pyramid, stored from coarse to fine
    (rf"fpn\.lat_layers\.([0-2])\.{PARAMETER}", lambda m: f"backbone.fpn_lateral{5 - int(m[1])}.{m[2]}"),
    (rf"fpn\.pred_layers\.([0-2])\.{PARAMETER}", lambda m: f"backbone.fpn_output{5 - int(m[1])}.{m[2]}"),
    (rf"fpn\.downsample_layers\.([01])\.{PARAMETER}", lambda m: f"backbone.top_block.p{6 + int(m[1])}.{m[2]}"),
    # the rest; between the indices of a sequence are ReLUs and an interpolation
    (rf"proto_net\.0\.{PARAMETER}", r"protonet.conv1.\1"),
    (rf"proto_net\.2\.{PARAMETER}", r"protonet.conv2.\1"),
    (rf"proto_net\.4\.{PARAMETER}", r"protonet.conv3.\1"),
    (rf"proto_net\.8\.{PARAMETER}", r"protonet.conv4.\1"),
    (rf"proto_net\.10\.{PARAMETER}", r"protonet.prototypes.\1"),
    (rf"prediction_layers\.0\.upfeature\.0\.{PARAMETER}", r"head.conv.\1"),
    (rf"prediction_layers\.0\.bbox_layer\.{PARAMETER}", r"head.box_pred.\1"),
    (rf"prediction_layers\.0\.conf_layer\.{PARAMETER}", r"head.class_logits.\1"),
    (rf"prediction_layers\.0\.mask_layer\.{PARAMETER}", r"head.mask_coefficients.\1"),
    (rf"semantic_seg_conv\.{PARAMETER}", r"sem_seg_head.predictor.\1"),
    (
        rf"maskiou_net\.maskiou_net\.([02468])\.{PARAMETER}",
        lambda m: f"mask_iou_head.conv{int(m[1]) // 2 + 1}.{m[2]}",
    ),
    (rf"maskiou_net\.maskiou_net\.10\.{PARAMETER}", r"mask_iou_head.predictor.\1"),
    (r"backbone\.layer\d+\..+", COPY),
    (r"fpn\.downsample_layers\.([2-9]|\d\d+)\..+", UNUSED_LEVEL),
)
# The detector's backbone, without the prefixes.
DARKNET_NAMES = table((rf"(?:fc|classifier)\.{PARAMETER}", CLASSIFIER), *_darknet_rows("", ""))
# Training there names its files <config>_<epoch>_<iteration>.pth, with _interrupt before the dot if it was interrupted.
FILE_NAME = re.compile(r"(?P<config>\w+?)(?:_\d+){1,2}(?:_interrupt)?\.pth")
# The bias of a deformable convolution, which is followed by a batch norm.
BIAS = re.compile(r"(backbone\.layers\.[0-3]\.\d+)\.conv2\.bias")


def _translate(values: Mapping[str, Any]) -> Translation:
    """Translate the names; fold the bias of a deformable convolution into the batch norm that follows it."""
    folded, dropped = dict(values), {}
    for key in values:
        bias = BIAS.fullmatch(key)
        mean = f"{bias[1]}.bn2.running_mean" if bias else ""
        if mean in values:
            folded[mean] = values[mean] - folded.pop(key)
            dropped[key] = FOLDED
    translation = translate_names(folded, NAMES, NAME)
    return translation._replace(dropped=dropped | translation.dropped)


def _pixel_format(values: Mapping[str, Any]) -> PixelFormat:
    return DARKNET_FORMAT if "backbone._preconv.0.weight" in values else RESNET_FORMAT


SOURCE = Source(
    NAME,
    "YOLACT",
    has_names("prediction_layers.0.bbox_layer.weight", "fpn.lat_layers.0.weight"),
    _translate,
    _pixel_format,
    file_name=FILE_NAME,
)
DARKNET = Source(
    DARKNET_NAME,
    "",
    has_names("_preconv.0.weight", "layers.0.0.0.weight"),
    renamed(DARKNET_NAMES, DARKNET_NAME),
    lambda values: DARKNET_FORMAT,
)
