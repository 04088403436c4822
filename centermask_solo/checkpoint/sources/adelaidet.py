"""SOLOv2 of AdelaiDet, whose names are those of this package."""

from __future__ import annotations

from .source import BGR_CENTERED, Source, has_names, keep_names

MARKS = ("ins_head.cate_pred.weight", "mask_head.conv_pred.0.weight")

SOURCE = Source(
    "SOLOv2 of AdelaiDet",
    "SOLOv2",
    has_names(*MARKS),
    keep_names,
    lambda values: BGR_CENTERED,
    always_this_format=False,
)
