"""ImageNet ResNets and ResNeXts as torchvision stores them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .source import (
    BATCH_COUNTER,
    CLASSIFIER,
    RGB_STANDARDIZED,
    Source,
    Translation,
    has_names,
    resnet_rows,
    table,
    translate_names,
)

NAME = "ResNet of torchvision (ImageNet)"
NAMES = table(
    (r".+\.num_batches_tracked", BATCH_COUNTER),
    (r"fc\.(weight|bias)", CLASSIFIER),
    *resnet_rows("", ""),
)


def _translate(values: Mapping[str, Any]) -> Translation:
    return translate_names(values, NAMES, NAME)


SOURCE = Source(
    NAME,
    "",
    has_names("conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "layer4.0.bn1.bias"),
    _translate,
    lambda values: RGB_STANDARDIZED,
)
