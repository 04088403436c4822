"""ImageNet ResNets and ResNeXts of torchvision, and ResNet-Ds, which timm has under the same kind of names."""

from __future__ import annotations

from .source import (
    BATCH_COUNTER,
    BATCH_NORM,
    CLASSIFIER,
    RGB_STANDARDIZED,
    Source,
    has_names,
    renamed,
    resnet_rows,
    table,
)

NAME = "ResNet of torchvision (ImageNet)"
RESNET_D = "ResNet-D of timm (ImageNet)"
# "conv1" is a sequence of three convolutions, and pooling shifts the parts of "downsample" by one.
NAMES_D = table(
    (r".+\.num_batches_tracked", BATCH_COUNTER),
    (r"fc\.(weight|bias)", CLASSIFIER),
    (r"conv1\.0\.weight", "stem.conv1.weight"),
    (r"conv1\.3\.weight", "stem.conv2.weight"),
    (r"conv1\.6\.weight", "stem.conv3.weight"),
    (rf"conv1\.1\.{BATCH_NORM}", r"stem.conv1.norm.\1"),
    (rf"conv1\.4\.{BATCH_NORM}", r"stem.conv2.norm.\1"),
    (rf"bn1\.{BATCH_NORM}", r"stem.conv3.norm.\1"),
    (r"layer([1-4])\.0\.downsample\.1\.weight", lambda m: f"res{int(m[1]) + 1}.0.shortcut.weight"),
    (rf"layer([1-4])\.0\.downsample\.2\.{BATCH_NORM}", lambda m: f"res{int(m[1]) + 1}.0.shortcut.norm.{m[2]}"),
    *resnet_rows("", ""),
)
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
SOURCE_D = Source(
    RESNET_D,
    "",
    has_names(
        "conv1.6.weight", "bn1.weight", "layer1.0.conv1.weight", "layer4.0.bn1.bias", "layer2.0.downsample.1.weight"
    ),
    renamed(NAMES_D, RESNET_D),
    lambda values: RGB_STANDARDIZED,
    always_this_format=False,
)
