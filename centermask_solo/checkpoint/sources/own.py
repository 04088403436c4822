"""Files of this package, which state class names and config beside the weights, and others under its names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import yaml

from . import adelaidet, centermask2
from .source import PixelFormat, Source, has_names, keep_names

# By which parameters a system is known; an earlier row may have those of a later one, too.
MARKS = {
    "SOLOv2": adelaidet.MARKS,
    "YOLACT": ("protonet.prototypes.weight", "head.mask_coefficients.weight"),
    "PanopticFPN": (centermask2.PANOPTIC_MARK, "roi_heads.mask_head.predictor.weight"),
    "CenterMask": ("proposal_generator.fcos_head.cls_logits.weight",),
    "GeneralizedRCNN": ("roi_heads.box_predictor.cls_score.weight",),
    "RetinaNet": ("head.cls_score.weight", "head.bbox_pred.weight"),
}
SOURCES = tuple(
    Source(f"{system} of this package", system, has_names(*marks), keep_names, lambda values: None)
    for system, marks in MARKS.items()
)
# Detectron2's, and those of this package of which somebody kept the weights alone.
UNSIGNED = tuple(replace(source, name=f"{source.system} in Detectron2's names") for source in SOURCES)


def is_own(metadata: Mapping[str, Any]) -> bool:
    """Whether a file with this beside its weights is one that this package wrote."""
    return "thing_classes" in metadata or recorded_format(metadata) is not None


def recorded_format(metadata: Mapping[str, Any]) -> PixelFormat | None:
    """The pixel format of the config that a file of this package has inside; None if it has none."""
    try:
        config = yaml.safe_load(metadata["config"])
        model = config["MODEL"]
        return PixelFormat(config["INPUT"]["FORMAT"], tuple(model["PIXEL_MEAN"]), tuple(model["PIXEL_STD"]))
    except (KeyError, TypeError, AttributeError, yaml.YAMLError):  # another project's, which uses the word otherwise
        return None


def recorded_config(metadata: Mapping[str, Any]) -> str | None:
    """The config, as YAML, that a file of this package has inside; None if it has none."""
    return metadata["config"] if recorded_format(metadata) else None
