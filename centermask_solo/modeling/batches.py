"""Inference in which an image's result does not depend on the other images of its batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from detectron2.modeling import Backbone
from detectron2.structures import ImageList
from torch import nn

Result = TypeVar("Result")


def run_by_padded_size(
    run: Callable[[list[int]], Sequence[Result]], batched_inputs: Sequence[dict[str, Any]], model: nn.Module
) -> list[Result]:
    """Return a result for each input, from one call of ``run`` per group of images that need the same padded size.

    A batch is padded to its largest image, and what an image is padded to affects its result: convolutions carry biases
    from the padding across the image's border, and SOLOv2's grids and coordinates span it. Images that need the same
    padded size have the same result in a batch as alone, to rounding.

    Args:
        run: Returns the results of the inputs with these indices, in their order.
        batched_inputs: Inputs with an ``image``, (C, H, W).
        model: The model that they are inputs of. Its ``backbone``, if it is one of Detectron2's, determines the
            padding; a model that states an ``input_size`` resizes every image to it.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, x in enumerate(batched_inputs):
        shape = getattr(x.get("image"), "shape", ())  # the model refuses what is no image
        groups.setdefault(padded_size(shape, model), []).append(i)
    results: dict[int, Result] = {}
    for indices in groups.values():
        results.update(zip(indices, run(indices), strict=True))
    return [results[i] for i in range(len(batched_inputs))]


def padded_size(shape: Sequence[int], model: nn.Module) -> tuple[int, ...]:
    """Return the size of the network's input for an image of ``shape`` that is alone in its batch."""
    input_size, backbone = getattr(model, "input_size", None), getattr(model, "backbone", None)
    if input_size is not None or not isinstance(backbone, Backbone) or len(shape) != 3:
        return tuple(input_size or shape)
    image = torch.empty(*shape, device="meta")  # Detectron2's own rule, without its work
    padded = ImageList.from_tensors([image], backbone.size_divisibility, 0.0, backbone.padding_constraints)
    return tuple(padded.tensor.shape[1:])
