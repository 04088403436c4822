"""Random weights that behave like trained ones, to compare runtimes on models whose weights nobody has.

With plain random weights activations grow or vanish from layer to layer, and no class passes a threshold. Here every
batch norm gets the statistics of its input, and the class logits a spread at which some detections are found.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor, nn

from centermask_solo.modeling.instance_part import instance_part
from centermask_solo.modeling.systems import list_systems

NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, FrozenBatchNorm2d)
MEAN_LOGIT, LOGIT_SPREAD = -4.0, 1.5  # of the classes
RARE_LOGIT = -4.0  # biases below it say that an output is rarely positive before training
MASK_FACTOR = 100.0  # by which the weights of such outputs grow


@torch.no_grad()
def calibrate(model: Any, images: Sequence[Tensor]) -> None:
    """Set the statistics of all norms, and the scale of the class logits, from what the layers see; in place.

    Args:
        model: A model of this package with random weights.
        images: (3, H, W), 0..255.
    """
    part: Any = instance_part(model.eval())
    batch = part.preprocess_image([{"image": x} for x in images]).tensor
    handles = [x.register_forward_pre_hook(_set_statistics) for x in part.modules() if isinstance(x, NORMS)]
    part.predict(batch)
    for handle in handles:
        handle.remove()
    patterns = [re.compile(pattern) for system in list_systems() for pattern in system.class_layers]
    layers = [m for name, m in part.named_modules() if any(p.fullmatch(name) for p in patterns)]
    for module in part.modules():  # SOLO's masks, whose every pixel begins as background
        bias = getattr(module, "bias", None)
        if isinstance(bias, Tensor) and module not in layers and bias.mean() < RARE_LOGIT:
            module.weight.mul_(MASK_FACTOR)
            bias.zero_()
    seen: set[int] = set()

    def rescale(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if id(layer) in seen:  # shared by all levels
            return
        seen.add(id(layer))
        factor = LOGIT_SPREAD / output.std().clamp(min=1e-6)
        layer.weight.mul_(factor)
        layer.bias.copy_(MEAN_LOGIT - (output.mean() - layer.bias.mean()) * factor)

    handles = [x.register_forward_hook(rescale) for x in layers if isinstance(getattr(x, "bias", None), Tensor)]
    part.predict(batch)
    for handle in handles:
        handle.remove()


def _set_statistics(norm: Any, inputs: tuple[Tensor, ...]) -> None:
    (x,) = inputs
    norm.running_mean.copy_(x.mean(dim=(0, 2, 3)))
    norm.running_var.copy_(x.var(dim=(0, 2, 3)).clamp(min=1e-4))
