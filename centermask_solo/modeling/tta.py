"""Test-time augmentation for any system that supports it."""

from __future__ import annotations

from detectron2.config import CfgNode
from torch import nn

from .centermask import CenterMaskWithTTA


def with_augmentation(cfg: CfgNode, model: nn.Module) -> nn.Module:
    """Return a wrapper of ``model`` that predicts with the sizes and flips of ``TEST.AUG``.

    Raises:
        ConfigError: The model does not support it.
    """
    return CenterMaskWithTTA(cfg, model)
