"""Identify the backbone that weights belong to from their names and shapes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ..modeling.backbone.vovnet_bodies import BODIES, VoVNetBody

if TYPE_CHECKING:
    from detectron2.config import CfgNode

# What a detector adds inside an ImageNet backbone.
OFFSETS = re.compile(r".+\bconv\d?_offset\.(?:weight|bias)")
# (Number of blocks per stage, whether they are bottlenecks) -> depth.
RESNETS = {
    ((2, 2, 2, 2), False): 18,
    ((3, 4, 6, 3), False): 34,
    ((3, 4, 6, 3), True): 50,
    ((3, 4, 23, 3), True): 101,
    ((3, 8, 36, 3), True): 152,
}


class Backbone(NamedTuple):
    """The common name of a backbone, in parts; "" where something is unknown.

    Attributes:
        kind: "ResNet", "ResNeXt", "VoVNetV2", "MobileNetV2" or "DarkNet".
        body: What follows the kind, such as "50", "101 32x8d" or "V-39-eSE".
        deformable: Stages with deformable convolutions.
        modulated: They are DCNv2, not DCN.
    """

    kind: str
    body: str = ""
    deformable: tuple[str, ...] = ()
    modulated: bool = False

    def __str__(self) -> str:
        name = f"{self.kind}{'-' if self.body[:1].isdigit() else ' '}{self.body}".rstrip()
        if not self.deformable:
            return name
        return f"{name}, {'DCNv2' if self.modulated else 'DCN'} in {', '.join(self.deformable)}"


def find_backbone(weights: Mapping[str, Any]) -> Backbone:
    """Return the backbone of ``weights``, whose names are those of this package, without a prefix.

    Its kind is "" if it is neither one of this package nor a ResNet of Detectron2.
    """
    shapes = {key: tuple(value.shape) for key, value in weights.items()}
    offsets = {key: shape for key, shape in shapes.items() if OFFSETS.fullmatch(key) and key.endswith("weight")}
    deformable = tuple(sorted({key.split(".")[0] for key in offsets}))
    modulated = any(shape[0] % 27 == 0 for shape in offsets.values())  # 9 x (2 offsets, 1 mask), else 9 x 2 offsets
    kind, body = "", ""
    if "res2.0.conv1.weight" in shapes:
        kind, body = _resnet(shapes)
    elif "stem.stem_1/conv.weight" in shapes:
        kind, body = "VoVNetV2", _vovnet_body(shapes)
    elif "features.1.conv.0.weight" in shapes:
        kind = "MobileNetV2"
    elif "stage1.downsample.weight" in shapes:
        kind, body = "DarkNet", "53"
    return Backbone(kind, body, deformable, modulated)


def name_backbone(cfg: CfgNode, weights: Mapping[str, Any]) -> str:
    """Return the common name of the backbone of a config's model, whose ``weights`` :func:`find_backbone` takes."""
    if "timm" in cfg.MODEL.BACKBONE.NAME:
        return f"{cfg.MODEL.TIMM.NAME} of timm"
    return str(find_backbone(weights)) or cfg.MODEL.BACKBONE.NAME


def stage_of(key: str) -> str:
    """Return the stage that a parameter of a backbone is in: its name up to the first number, such as "res5"."""
    match = re.match(r".*?\d[^.]*", key)
    return match[0] if match else key.split(".")[0]


def _resnet(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, str]:
    stages = Counter(match[1] for key in shapes if (match := re.fullmatch(r"(res\d)\.\d+\.conv1\.weight", key)))
    blocks = tuple(stages[name] for name in sorted(stages))
    bottleneck = "res2.0.conv3.weight" in shapes
    depths = [
        str(depth) for (full, kind), depth in RESNETS.items() if full[: len(blocks)] == blocks and kind is bottleneck
    ]
    depth = depths[0] if len(depths) == 1 else f"of {' + '.join(map(str, blocks))} blocks"
    width, group_width = shapes["res2.0.conv2.weight"][:2]
    if width == group_width:
        return "ResNet", depth
    return "ResNeXt", f"{depth} {width // group_width}x{group_width}d"


def _vovnet_body(shapes: Mapping[str, tuple[int, ...]]) -> str:
    found = {key.split("/")[0]: shape[:2] for key, shape in shapes.items() if key.endswith("_concat/conv.weight")}
    depthwise = "stem.stem_2/dw_conv3x3.weight" in shapes
    for name, body in BODIES.items():
        if body.depthwise is depthwise and found and found.items() <= _concatenations(body).items():
            return name
    return ""


def _concatenations(body: VoVNetBody) -> dict[str, tuple[int, int]]:
    """Return the output and input channels of the layer that ends each block."""
    found, channels = {}, body.stem_channels[-1]
    for i, num_blocks in enumerate(body.num_blocks):
        for b in range(1, num_blocks + 1):
            osa = f"OSA{i + 2}_{b}"
            inner = body.num_layers * body.conv_channels[i]
            found[f"stage{i + 2}.{osa}.concat.{osa}_concat"] = (body.out_channels[i], channels + inner)
            channels = body.out_channels[i]
    return found
