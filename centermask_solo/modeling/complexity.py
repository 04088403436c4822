"""How large a model's networks are: parameters and multiply-adds of each part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from detectron2.modeling import GeneralizedRCNN, PanopticFPN
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..utils.errors import ConfigError
from .instance_segmentor import InstanceSegmentor

BOXES = 100  # that a second stage completes with masks, as in COCO's metrics
PROPOSALS = 1000  # of a model that does not make them itself: Detectron2's default
_CONTAINERS = ("proposal_generator", "roi_heads")  # of Detectron2's two-stage detectors: their modules are the parts
_BODY = "bottom_up"  # what Detectron2's FPN calls the network below the pyramid


class Part(NamedTuple):
    """A part of a model.

    Attributes:
        name: Its module; "backbone" without "backbone.bottom_up" is the feature pyramid.
        parameters: Number of its parameters, frozen ones included.
        macs: Multiplications with an addition each, in convolutions and matrix products; 0 for what only training uses.
    """

    name: str
    parameters: int
    macs: int


def count_parts(model: nn.Module, size: tuple[int, int], boxes: int = BOXES) -> list[Part]:
    """Return the parts of a model's networks in prediction, for one image.

    Everything that prediction runs with learned weights counts: not decoding, NMS and masks, and of networks neither
    norms, activations, interpolation nor the sampling of RoIs and of deformable convolutions.

    Args:
        model: One of this package's models, or an R-CNN of Detectron2's; also on the device "meta", where nothing is
            computed.
        size: (height, width) of the networks' input, padded as the model needs it.
        boxes: Detections that the second stage, if there is one, completes with masks. Box heads run on all proposals.

    Raises:
        ConfigError: The model is of another kind.
    """
    parameters: dict[str, int] = {}
    for name, value in model.named_parameters():
        parameters[part_of(name)] = parameters.get(part_of(name), 0) + value.numel()
    macs: dict[str, int] = {}
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), _counted(model, macs):
            _run_networks(model, size, boxes)
    finally:
        model.train(was_training)
    return [Part(name, parameters.get(name, 0), macs.get(name, 0)) for name in parameters | macs]


def part_of(name: str) -> str:
    """Return the part that a module or a parameter belongs to, by its name in the model."""
    words = name.split(".")
    deep = words[0] in _CONTAINERS or words[1:2] == [_BODY]
    return ".".join(words[: 2 if deep else 1])


@contextmanager
def _counted(model: nn.Module, macs: dict[str, int]) -> Iterator[None]:
    """Inside the context, add the multiply-adds of each module that runs, without those of modules inside, to its part.

    FlopCounterMode's own names of modules begin anew wherever a method other than ``forward`` is called.
    """
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.torchvision.deform_conv2d: _deform_conv_flops})
    running: list[list[int]] = []  # flops before the module, and of the modules inside

    def begin(*_: Any) -> None:
        running.append([counter.get_total_flops(), 0])

    def end(module: nn.Module, *_: Any) -> None:
        before, inside = running.pop()
        flops = counter.get_total_flops() - before
        if running:
            running[-1][1] += flops
        if flops > inside:
            part = part_of(names[module])
            macs[part] = macs.get(part, 0) + (flops - inside) // 2

    names = {module: name for name, module in model.named_modules()}
    with ExitStack() as stack:
        for module in names:
            stack.enter_context(module.register_forward_pre_hook(begin))
            stack.enter_context(module.register_forward_hook(end))
        stack.enter_context(counter)
        yield


def _deform_conv_flops(x: Sequence[int], weight: Sequence[int], *_: Any, out_shape: Sequence[int], **__: Any) -> int:
    """Return the flops of the products of sampled values and weights, as of an ordinary convolution."""
    del x
    out_channels, in_channels, height, width = weight
    return 2 * out_shape[0] * out_shape[2] * out_shape[3] * out_channels * in_channels * height * width


def _run_networks(model: Any, size: tuple[int, int], boxes: int) -> None:
    """Run every network of prediction once, on an empty image and on empty RoIs."""
    device = next(model.parameters()).device
    images = torch.zeros(1, len(model.pixel_mean), *size, device=device)
    classes = torch.zeros(boxes, dtype=torch.int64, device=device)
    module: nn.Module = model  # narrowing the type of ``model`` would forbid what follows
    if isinstance(module, GeneralizedRCNN):
        features = model.backbone(images)
        _run_proposals(model.proposal_generator, features)
        _run_roi_heads(model, classes)
        if isinstance(module, PanopticFPN):
            model.sem_seg_head(features)
    elif isinstance(module, DenseDetector):
        features = model.backbone(images)
        model.head([features[x] for x in model.head_in_features])
    elif isinstance(module, InstanceSegmentor):
        model.predict(images)
        if getattr(model, "mask_iou_head", None) is not None:
            model.mask_iou_head(torch.zeros(boxes, *model.gt_mask_sizes["gt_prototype_masks"], device=device), classes)
    else:
        raise ConfigError(f"the networks of a {type(model).__name__} are not known here: count with FlopCounterMode")


def _run_proposals(generator: Any, features: dict[str, Tensor]) -> None:
    if hasattr(generator, "predict"):
        generator.predict(features)
    elif generator is not None:  # there is none for precomputed proposals
        generator.rpn_head([features[x] for x in generator.in_features])


def _run_roi_heads(model: Any, classes: Tensor) -> None:
    """Run the networks of RoI heads: on all proposals for boxes, on those of ``classes`` for masks and keypoints."""
    heads, shapes = model.roi_heads, model.backbone.output_shape()

    def pooled(kind: str, count: int) -> Tensor | None:
        pooler = getattr(heads, f"{kind}_pooler", None)
        if pooler is None:
            return None
        level = getattr(heads, f"{kind}_in_features")[0]
        return torch.zeros(count, shapes[level].channels, *pooler.output_size, device=classes.device)

    proposals = getattr(model.proposal_generator, "post_nms_topk", {False: PROPOSALS})[False]
    if (x := pooled("box", proposals)) is not None:
        heads.box_predictor(heads.box_head(x))
    if (x := pooled("mask", len(classes))) is not None:
        logits = heads.mask_head.layers(x)
        if getattr(heads, "maskiou_head", None) is not None:
            heads.maskiou_head(x, logits[:, 0], classes)
    if (x := pooled("keypoint", len(classes))) is not None:
        heads.keypoint_head.layers(x)
