"""ImageNet MobileNetV2s of width 1.0, under the names of CenterMask's authors (and this package) and torchvision."""

from __future__ import annotations

import re

from .source import (
    BARE,
    BATCH_COUNTER,
    BATCH_NORM,
    CLASSIFIER,
    PARAMETER,
    RGB_STANDARDIZED,
    Drop,
    Source,
    has_names,
    is_backbone_with,
    renamed,
    table,
)

NAME = "MobileNetV2 in the names of its first PyTorch version, as of CenterMask's authors (ImageNet)"
TORCHVISION_NAME = "MobileNetV2 of torchvision (ImageNet)"
LAST_LAYER = Drop("the layer between the last block and the classifier, which a detector does not have")
STEM = rf"features\.0\.(?:0\.weight|1\.{BATCH_NORM})"

NAMES = table(
    (r".+\.num_batches_tracked", BATCH_COUNTER),
    (rf"{BARE}classifier\.(?:\d\.)?{PARAMETER}", CLASSIFIER),
    (rf"{BARE}(?:features\.18|conv)\.(?:0\.weight|1\.{BATCH_NORM})", LAST_LAYER),
    (rf"{BARE}({STEM})", r"\1"),
    (rf"{BARE}(features\.(?:[1-9]|1[0-7])\.conv\.[0-7]\.{BATCH_NORM})", r"\1"),
)


def _nested(match: re.Match[str]) -> str:
    """Return the name of a convolution or its norm, which is in a unit there; here activations are counted, too."""
    return f"{match[1]}.conv.{3 * int(match[2]) + int(match[3])}.{match[4]}"


def _projection(match: re.Match[str]) -> str:
    """Return the name of the last convolution of a block or its norm, behind two units (one in the first block)."""
    return f"{match[1]}.conv.{int(match[2]) + (2 if match[1] == 'features.1' else 4)}.{match[3]}"


BLOCK = r"(features\.(?:[1-9]|1[0-7]))\.conv\."
TORCHVISION_NAMES = table(
    (r".+\.num_batches_tracked", BATCH_COUNTER),
    (rf"classifier\.1\.{PARAMETER}", CLASSIFIER),
    (rf"features\.18\.(?:0\.weight|1\.{BATCH_NORM})", LAST_LAYER),
    (STEM, r"\g<0>"),
    (rf"{BLOCK}([01])\.([01])\.{BATCH_NORM}", _nested),
    (rf"{BLOCK}([1-3])\.{BATCH_NORM}", _projection),
)


SOURCE = Source(
    NAME,
    "",
    is_backbone_with("features.1.conv.0.weight"),
    renamed(NAMES, NAME),
    lambda values: None,  # that of the authors expects BGR, others of the same names RGB
)
TORCHVISION = Source(
    TORCHVISION_NAME,
    "",
    has_names("features.0.0.weight", "features.1.conv.0.0.weight"),
    renamed(TORCHVISION_NAMES, TORCHVISION_NAME),
    lambda values: RGB_STANDARDIZED,
)
