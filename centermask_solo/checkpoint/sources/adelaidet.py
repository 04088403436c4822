"""SOLOv2 of AdelaiDet, whose names are those of this package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .source import BGR_CENTERED, Source, has_names, keep_names

MARKS = ("ins_head.cate_pred.weight", "mask_head.conv_pred.0.weight")

PANOPTIC_MARK = "sem_seg_head.predictor.weight"  # of a panoptic model, which only this package has


def _recognizes(values: Mapping[str, Any]) -> bool:
    return has_names(*MARKS)(values) and PANOPTIC_MARK not in values


SOURCE = Source(
    "SOLOv2 of AdelaiDet",
    "SOLOv2",
    _recognizes,
    keep_names,
    lambda values: BGR_CENTERED,
    always_this_format=False,
)
