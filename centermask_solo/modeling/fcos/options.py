"""Options that FCOS shares with the systems that contain it."""

from __future__ import annotations

from typing import NamedTuple

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec

from ...utils.errors import ConfigError
from ..semantic import SemanticAuxiliary, build_semantic_auxiliary

WITH_SEMANTIC_LOSS = ("CenterMask", "FCOS")


class DecodeLimits(NamedTuple):
    """How many boxes decoding returns."""

    score_thresh: float  # class probability, exclusive
    pre_nms_topk: int  # candidates per image and level
    post_nms_topk: int  # boxes per image; negative for no limit


def check_semantic_loss(cfg: CfgNode) -> None:
    """Raise ConfigError if the config asks for the auxiliary loss in a meta-architecture that has none."""
    name = cfg.MODEL.META_ARCHITECTURE
    if cfg.MODEL.FCOS.LOSS.SEM_SEG_WEIGHT and name not in WITH_SEMANTIC_LOSS:
        raise ConfigError(
            f"MODEL.FCOS.LOSS.SEM_SEG_WEIGHT must be 0 with MODEL.META_ARCHITECTURE {name}: only "
            f"{' and '.join(WITH_SEMANTIC_LOSS)} have this loss"
        )


def build_semantic_head(cfg: CfgNode, shapes: dict[str, ShapeSpec]) -> SemanticAuxiliary | None:
    """Return the auxiliary loss of the systems with FCOS, on its finest level; None if its weight is 0."""
    node = cfg.MODEL.FCOS
    num_classes = node.NUM_CLASSES or cfg.MODEL.ROI_HEADS.NUM_CLASSES
    return build_semantic_auxiliary(shapes, node.IN_FEATURES[0], num_classes, node.LOSS.SEM_SEG_WEIGHT)
