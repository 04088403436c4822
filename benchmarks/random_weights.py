"""Random weights that behave like trained ones, to compare runtimes on models whose weights nobody has.

With plain random weights activations grow or vanish from layer to layer, and either no class passes the threshold or
so many pairs of a cell and a class that the limits of decoding decide. Here every batch norm gets the statistics of its
input, and the class logits a spread and a mean at which some hundred pairs of each image pass, as after training.

Norms also add 1 to what they normalize. Where they add nothing, every second unit of a random network is at the bend of
its activation, and rounding grows from block to block: 100 times in ResNet-50, so that class logits of CenterMask that
PyTorch computes in float32 and in float64 differ by 5e-4 on the matrix's images; with the 1 they differ by 1e-5.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead
from torch import Tensor, nn

from centermask_solo.modeling.fcos.heads import FCOSHead
from centermask_solo.modeling.instance_part import detection_limits, instance_part
from centermask_solo.modeling.systems import list_systems

NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, FrozenBatchNorm2d)
NORM_BIAS = 1.0  # what norms add, in units of the spread of what they normalize
LOGIT_SPREAD = 1.5  # of the classes
NUM_PASSING = 300  # pairs of a place and a class of an image whose probability passes the threshold
LEAST_THRESH = 0.001  # in place of lower ones, such as for LVIS, which NMS would hardly leave anything above
RARE_LOGIT = -4.0  # biases below it say that an output is rarely positive before training
FAINT = 0.05  # spread of weights that begin almost as zero, relative to one that keeps the spread of the input
OFFSETS = 0.05  # spread of offsets, pixels, for inputs of spread 1
MASK_FACTOR = 100.0  # by which the weights of such outputs grow
MASK_LOGIT = 1.5  # mean inside boxes, in units of its spread: objects fill most of them


@torch.no_grad()
def calibrate(model: Any, images: Sequence[Tensor], distance: float = 0.0) -> None:
    """Set the statistics of all norms, and the scale of the class logits, from what the layers see; in place.

    Args:
        model: A model of this package with random weights.
        images: (3, H, W), 0..255.
        distance: Mean of the distances of FCOS's places to the sides of boxes, strides; with 0, few boxes have an area.
    """
    part: Any = instance_part(model.eval())
    for module in part.modules():
        if isinstance(module, nn.Conv2d):
            _strengthen(module)
        elif isinstance(module, (*NORMS, nn.GroupNorm)):
            module.bias.fill_(NORM_BIAS)
        elif isinstance(module, FCOSHead):
            module.bbox_pred.bias.fill_(distance)
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
    seen: dict[Any, list[Tensor]] = {}
    handles = [
        x.register_forward_hook(lambda layer, _, output: seen.setdefault(layer, []).append(output.flatten()))
        for x in layers
        if isinstance(getattr(x, "bias", None), Tensor)
    ]
    part.predict(batch)
    for handle in handles:
        handle.remove()
    for layer, outputs in seen.items():
        _rescale(layer, torch.cat(outputs), detection_limits(part).score_thresh, len(images))
    for module in part.modules():
        if isinstance(module, MaskRCNNConvUpsampleHead):
            _fill_boxes(module, part, images)


def _strengthen(layer: nn.Conv2d) -> None:
    """Make weights that begin almost as zero, such as CenterMask's masks, which are 0.5 everywhere, normal ones.

    Those that begin as zero are the offsets of deformable convolutions, which stay within parts of a pixel: among
    features without any smoothness, larger ones turn the rounding of a layer into a change of the next.
    """
    keeping = layer.weight[0].numel() ** -0.5  # the spread of the input
    spread = float(layer.weight.std())
    if spread < FAINT * keeping:
        layer.weight.normal_(std=keeping if spread else OFFSETS * keeping)


def _fill_boxes(head: Any, model: Any, images: Sequence[Tensor]) -> None:
    """Give masks of every class a mean logit of :data:`MASK_LOGIT`: by chance some would be a few pixels of a box."""
    seen: list[Tensor] = []
    handle = head.deconv.register_forward_hook(lambda layer, _, output: seen.append(output.relu().transpose(0, 1)))
    model([{"image": x} for x in images])
    handle.remove()
    logits = head.predictor.weight.flatten(1) @ torch.cat([x.flatten(1) for x in seen], dim=1)  # (classes, pixels)
    if logits.numel():
        head.predictor.bias.copy_(MASK_LOGIT * logits.std(dim=1) - logits.mean(dim=1))


def _rescale(layer: Any, logits: Tensor, score_thresh: float, num_images: int) -> None:
    """Give a layer's logits, of all levels, the spread and mean at which :data:`NUM_PASSING` of each image pass."""
    factor = LOGIT_SPREAD / logits.std().clamp(min=1e-6)
    best = logits.topk(min(NUM_PASSING * num_images, len(logits))).values
    score_thresh = max(score_thresh, LEAST_THRESH)
    shift = math.log(score_thresh / (1 - score_thresh)) - factor * best[-1]
    layer.weight.mul_(factor)
    layer.bias.mul_(factor).add_(shift)


def _set_statistics(norm: Any, inputs: tuple[Tensor, ...]) -> None:
    (x,) = inputs
    norm.running_mean.copy_(x.mean(dim=(0, 2, 3)))
    norm.running_var.copy_(x.var(dim=(0, 2, 3)).clamp(min=1e-4))
