"""Models of timm: as they are for a backbone that is built by timm, and its VoVNetV2s for this package's own.

The latter are ese_vovnet19b_dw, ese_vovnet19b_slim_dw, ese_vovnet39b, ese_vovnet57b and ese_vovnet99b.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from .source import (
    BATCH_COUNTER,
    CLASSIFIER,
    NOT_BUILT,
    PARAMETER,
    RGB_STANDARDIZED,
    PixelFormat,
    Rename,
    Source,
    Table,
    Translation,
    has_names,
    table,
    translate_names,
)

NAME = "VoVNetV2 of timm (ImageNet)"
BLOCK = r"stages\.(?P<stage>[0-3])\.blocks\.(?P<block>\d+)\."
UNIT = r"(?P<part>conv|conv_dw|conv_pw|bn)\.(?P<value>weight|bias|running_mean|running_var)"
OPEN_GATE = 3.0  # a hard sigmoid is 1 from here on
# ese_vovnet57b is the only one that was trained on images in -1..1; its blocks distinguish it from the others.
HALF_FORMAT = PixelFormat("RGB", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5))
HALF_MARKS = ("stages.2.blocks.3.conv_concat.conv.weight", "stages.2.blocks.4.conv_concat.conv.weight")


def features_source(model: str, names: Mapping[str, str], images: PixelFormat) -> Source:
    """Return the source of timm's own weights for a backbone that timm builds.

    Args:
        model: Name of the model in timm.
        names: Name in the backbone of each entry of timm's state dict that has a place there.
        images: What timm's weights were trained on.
    """

    def translate(values: Mapping[str, Any]) -> Translation:
        left_out = {key: BATCH_COUNTER if key.endswith("num_batches_tracked") else NOT_BUILT for key in values}
        dropped = {key: drop.reason for key, drop in left_out.items() if key not in names}
        return Translation({names[key]: value for key, value in values.items() if key in names}, dropped)

    def recognizes(values: Mapping[str, Any]) -> bool:
        return len(values.keys() & names.keys()) > len(names) / 2

    return Source(f"{model} of timm", "", recognizes, translate, lambda values: images, always_this_format=False)


def _at(place: str, norm: str = "norm") -> Rename:
    """Return a function that fills ``place`` with what ``BLOCK`` and ``UNIT`` matched, counted as here."""
    parts = {"conv": "conv", "conv_dw": "dw_conv3x3", "conv_pw": "pw_conv1x1", "bn": norm, "": ""}

    def name(match: re.Match[str]) -> str:
        found = match.groupdict("")
        osa = f"OSA{int(found.get('stage', 0)) + 2}_{int(found.get('block', 0)) + 1}"
        layer, part = int(found.get("layer", 0)), parts[found.get("part", "")]
        return place.format(stage=osa[3], osa=osa, layer=layer, next=layer + 1, part=part, value=found["value"])

    return name


def _names(norm: str) -> Table:
    """Return the table of names of the bodies whose 3x3 units have a norm of this name here."""
    return table(
        (r".+\.num_batches_tracked", BATCH_COUNTER),
        (rf"head\.fc\.{PARAMETER}", CLASSIFIER),
        (rf"stem\.0\.{UNIT}", _at("stem.stem_1/{part}.{value}")),
        (rf"stem\.(?P<layer>[12])\.{UNIT}", _at("stem.stem_{next}/{part}.{value}", norm)),
        (rf"{BLOCK}conv_reduction\.{UNIT}", _at("stage{stage}.{osa}.conv_reduction.{osa}_reduction_0/{part}.{value}")),
        (
            rf"{BLOCK}conv_mid\.(?P<layer>\d+)\.{UNIT}",
            _at("stage{stage}.{osa}.layers.{layer}.{osa}_{layer}/{part}.{value}", norm),
        ),
        (rf"{BLOCK}conv_concat\.{UNIT}", _at("stage{stage}.{osa}.concat.{osa}_concat/{part}.{value}")),
        (rf"{BLOCK}attn\.fc\.(?P<value>weight|bias)", _at("stage{stage}.{osa}.ese.fc.{value}")),
    )


PLAIN, DEPTHWISE = _names("norm"), _names("pw_norm")


def _translate(values: Mapping[str, Any]) -> Translation:
    """Translate the names; add gates of 1 to blocks without eSE, which timm has only in the last block of a stage."""
    names = DEPTHWISE if "stem.1.conv_dw.weight" in values else PLAIN
    weights, dropped = translate_names(values, names, NAME)
    for key, value in list(weights.items()):
        block, concat, _ = key.partition(".concat.")
        if concat and key.endswith("conv.weight") and f"{block}.ese.fc.weight" not in weights:
            channels = value.shape[0]
            weights[f"{block}.ese.fc.weight"] = torch.zeros(channels, channels, 1, 1)
            weights[f"{block}.ese.fc.bias"] = torch.full((channels,), OPEN_GATE)
    return Translation(weights, dropped)


def _format(values: Mapping[str, Any]) -> PixelFormat:
    last, beyond = HALF_MARKS
    return HALF_FORMAT if last in values and beyond not in values else RGB_STANDARDIZED


SOURCE = Source(
    NAME, "", has_names("stem.0.conv.weight", "stages.0.blocks.0.conv_concat.conv.weight"), _translate, _format
)
