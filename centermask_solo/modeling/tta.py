"""Test-time augmentation for any system that supports it."""

from __future__ import annotations

from detectron2.config import CfgNode
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..utils.errors import ConfigError
from .centermask import CenterMaskWithTTA
from .instance_segmentor import InstanceSegmentor
from .instance_tta import InstanceTTA


def with_augmentation(cfg: CfgNode, model: nn.Module) -> nn.Module:
    """Return a wrapper of ``model`` that predicts with the sizes and flips of ``TEST.AUG``.

    Raises:
        ConfigError: The model does not support it.
    """
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    if not isinstance(inner, InstanceSegmentor):
        return CenterMaskWithTTA(cfg, model)
    if type(inner).outputs is not InstanceSegmentor.outputs:
        raise ConfigError(
            f"test-time augmentation does not support {type(inner).__name__}, which predicts more than instances: set "
            "TEST.AUG.ENABLED to False"
        )
    return InstanceTTA(cfg, inner)
