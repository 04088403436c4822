"""CenterMask2 and Panoptic-CenterMask2 of the authors, whose names are those of this package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .source import BACKBONE, BGR_CENTERED, PixelFormat, Source, has_names, keep_names

MARKS = ("proposal_generator.fcos_head.cls_logits.weight", "roi_heads.mask_head.spatialAtt.conv.weight")
PANOPTIC_MARK = "sem_seg_head.predictor.weight"
# Detectron2's ResNeXts, whose ImageNet training standardized its images.
RESNEXT_FORMAT = PixelFormat("BGR", BGR_CENTERED.mean, (57.375, 57.12, 58.395))


def _pixel_format(values: Mapping[str, Any]) -> PixelFormat:
    conv = values.get(f"{BACKBONE}res3.0.conv2.weight")
    grouped = conv is not None and conv.shape[0] != conv.shape[1]
    return RESNEXT_FORMAT if grouped else BGR_CENTERED


PANOPTIC = Source(
    "Panoptic-CenterMask2 of the authors",
    "PanopticFPN",
    has_names(*MARKS, PANOPTIC_MARK),
    keep_names,
    _pixel_format,
    always_this_format=False,
)
SOURCE = Source(
    "CenterMask2 of the authors",
    "CenterMask",
    lambda values: has_names(*MARKS)(values) and PANOPTIC_MARK not in values,
    keep_names,
    _pixel_format,
    always_this_format=False,
)
