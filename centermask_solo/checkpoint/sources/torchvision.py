"""ImageNet ResNets and ResNeXts of torchvision."""

from __future__ import annotations

from .source import (
    BATCH_COUNTER,
    CLASSIFIER,
    RGB_STANDARDIZED,
    Source,
    has_names,
    renamed,
    resnet_rows,
    table,
)

NAME = "ResNet of torchvision (ImageNet)"
NAMES = table(
    (r".+\.num_batches_tracked", BATCH_COUNTER),
    (r"fc\.(weight|bias)", CLASSIFIER),
    *resnet_rows("", ""),
)


SOURCE = Source(
    NAME,
    "",
    has_names("conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "layer4.0.bn1.bias"),
    renamed(NAMES, NAME),
    lambda values: RGB_STANDARDIZED,
)
