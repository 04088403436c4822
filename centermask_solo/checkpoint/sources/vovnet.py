"""ImageNet VoVNetV2s of CenterMask's authors, under the names of this package, with or without a prefix."""

from __future__ import annotations

from .source import (
    BARE,
    BATCH_COUNTER,
    BGR_CENTERED,
    CLASSIFIER,
    PARAMETER,
    Source,
    is_backbone_with,
    renamed,
    table,
)

NAME = "VoVNetV2 of CenterMask's authors (ImageNet)"
UNIT = r"(?:conv\.weight|(?:dw_conv3x3|pw_conv1x1)\.weight|(?:pw_)?norm\.(?:weight|bias|running_mean|running_var))"
NAMES = table(
    (r".+\.num_batches_tracked", BATCH_COUNTER),
    (rf"{BARE}(?:classifier|fc)\.{PARAMETER}", CLASSIFIER),
    (rf"{BARE}(stem\.stem_[123]/{UNIT})", r"\1"),
    (rf"{BARE}(stage([2-5])\.OSA\2_\d+\.(?:layers\.\d+|conv_reduction|concat)\.OSA\2_\d+_\w+/{UNIT})", r"\1"),
    (rf"{BARE}(stage([2-5])\.OSA\2_\d+\.ese\.fc\.{PARAMETER})", r"\1"),
)


SOURCE = Source(
    NAME,
    "",
    is_backbone_with("stem.stem_1/conv.weight"),
    renamed(NAMES, NAME),
    lambda values: BGR_CENTERED,
    always_this_format=False,
)
