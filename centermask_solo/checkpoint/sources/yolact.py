"""Published YOLACT and YOLACT++ models, and the ImageNet DarkNet-53 they start from, under the names used here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from torch import Tensor

__all__ = ["from_yolact", "from_yolact_darknet", "is_yolact", "is_yolact_darknet"]

Rename = str | Callable[[re.Match[str]], str]

PARAMETER = r"(weight|bias)"
BATCH_NORM = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
BACKBONE = "backbone.bottom_up."
# A pattern fits a whole name; every name of a published file fits exactly one. Stages, levels and layers are counted
# differently in the two layouts.
RENAMES: tuple[tuple[re.Pattern[str], Rename], ...] = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
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
        # DarkNet-53
        (r"backbone\._preconv\.0\.weight", BACKBONE + "stem.conv1.weight"),
        (rf"backbone\._preconv\.1\.{BATCH_NORM}", BACKBONE + r"stem.conv1.norm.\1"),
        (r"backbone\.layers\.([0-4])\.0\.0\.weight", lambda m: f"{_stage(m)}.downsample.weight"),
        (rf"backbone\.layers\.([0-4])\.0\.1\.{BATCH_NORM}", lambda m: f"{_stage(m)}.downsample.norm.{m[2]}"),
        (
            r"backbone\.layers\.([0-4])\.([1-8])\.conv([12])\.0\.weight",
            lambda m: f"{_stage(m)}.{int(m[2]) - 1}.conv{m[3]}.weight",
        ),
        (
            rf"backbone\.layers\.([0-4])\.([1-8])\.conv([12])\.1\.{BATCH_NORM}",
            lambda m: f"{_stage(m)}.{int(m[2]) - 1}.conv{m[3]}.norm.{m[4]}",
        ),
        # the pyramid, stored from coarse to fine
        (rf"fpn\.lat_layers\.([0-2])\.{PARAMETER}", lambda m: f"backbone.fpn_lateral{5 - int(m[1])}.{m[2]}"),
        (rf"fpn\.pred_layers\.([0-2])\.{PARAMETER}", lambda m: f"backbone.fpn_output{5 - int(m[1])}.{m[2]}"),
        (rf"fpn\.downsample_layers\.([01])\.{PARAMETER}", lambda m: f"backbone.top_block.p{6 + int(m[1])}.{m[2]}"),
        # the rest; what is between the indices of a sequence are ReLUs and an interpolation
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
    )
)
# Second copies of a parameter, and layers that nothing computes with, in files of older versions.
LEFT_OVERS = re.compile(r"backbone\.layer\d+\..+|fpn\.downsample_layers\.([2-9]|\d\d+)\..+")
# Of a deformable convolution, which has a batch norm behind it.
BIAS = re.compile(r"(backbone\.layers\.[0-3]\.\d+)\.conv2\.bias")


def _block(match: re.Match[str]) -> str:
    return f"{BACKBONE}res{int(match[1]) + 2}.{match[2]}"


def _stage(match: re.Match[str]) -> str:
    return f"{BACKBONE}stage{int(match[1]) + 1}"


def is_yolact(names: Iterable[str]) -> bool:
    """Whether these are the names of a published YOLACT or YOLACT++."""
    return {"prediction_layers.0.bbox_layer.weight", "fpn.lat_layers.0.weight"} <= set(names)


def is_yolact_darknet(names: Iterable[str]) -> bool:
    """Whether these are the names of the ImageNet DarkNet-53 that YOLACT's training starts from."""
    return {"_preconv.0.weight", "layers.0.0.0.weight"} <= set(names)


def from_yolact(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same model under the names of :class:`~centermask_solo.modeling.yolact.YOLACT`.

    The bias of a deformable convolution is folded into the running mean of the batch norm behind it, where it has the
    same effect. What older files hold twice, and layers of theirs that nothing computes with, is left out.

    Args:
        state_dict: of a published file, of any of its versions.

    Raises:
        ValueError: the names of all entries that have no place in YOLACT, or lack what they belong to.
    """
    renamed, unknown = {}, []
    for key, value in state_dict.items():
        bias = BIAS.fullmatch(key)
        if LEFT_OVERS.fullmatch(key) or (bias and f"{bias[1]}.bn2.running_mean" in state_dict):
            continue
        name = _rename(key)
        if name is None:
            unknown.append(key)
            continue
        mean = re.fullmatch(r"(.+)\.bn2\.running_mean", key)
        if mean and f"{mean[1]}.conv2.bias" in state_dict:
            value = value - state_dict[f"{mean[1]}.conv2.bias"]
        renamed[name] = value
    if unknown:
        raise ValueError(f"YOLACT has no place for {len(unknown)} entries of the file: {', '.join(unknown)}")
    return renamed


def from_yolact_darknet(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same values under the names of :class:`~centermask_solo.modeling.backbone.darknet.DarkNet`, without prefix.

    Names that are not the backbone's, such as a classifier's, stay as they are: where the backbone sits in a model, and
    what to say of the rest, is for the caller.
    """
    names = {key: _rename(f"backbone.{key}") for key in state_dict}
    return {(names[key] or key).removeprefix(BACKBONE): value for key, value in state_dict.items()}


def _rename(key: str) -> str | None:
    """The name here, or None if the name is not of this layout."""
    for pattern, name in RENAMES:
        match = pattern.fullmatch(key)
        if match:
            return match.expand(name) if isinstance(name, str) else name(match)
    return None
