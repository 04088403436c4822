"""Test-time augmentation of whatever system a config names."""

from __future__ import annotations

from detectron2.config import CfgNode
from torch import nn

from .centermask import CenterMaskWithTTA


def with_augmentation(cfg: CfgNode, model: nn.Module) -> nn.Module:
    """Return a wrapper of ``model`` that predicts with the sizes and flips of ``TEST.AUG``.

    Raises:
        ConfigError: There is no test-time augmentation of such a model.
    """
    return CenterMaskWithTTA(cfg, model)
