"""Checks of the images that a meta-architecture is given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from ..utils.errors import DataError


def check_images(batched_inputs: Sequence[dict[str, Any]], model: Any) -> None:
    """Raise DataError, which is a ValueError, unless the images can be what a model expects.

    Args:
        batched_inputs: Input dicts in Detectron2's format.
        model: Its ``pixel_mean`` has a value for each channel. In evaluation mode, the values of images on the CPU are
            checked, too; with ``expects_0_to_255``, values from 0 to 1 are a mistake.
    """
    num_channels = len(model.pixel_mean)
    for x in batched_inputs:
        image, name = x.get("image"), x.get("file_name", "the image")
        if not isinstance(image, torch.Tensor):
            raise DataError(f"{name} is a {type(image).__name__}: give a tensor ({num_channels}, H, W)")
        shape = tuple(image.shape)
        if image.ndim != 3 or shape[0] != num_channels:
            raise DataError(
                f"{name} is a tensor of {shape}: give ({num_channels}, H, W), to a predictor an array (H, W, "
                f"{num_channels})"
            )
        if not image.numel():
            raise DataError(f"{name} is a tensor of {shape}, which has no pixels")
        if not model.training and image.is_floating_point() and image.device.type == "cpu":
            low, high = (float(v) for v in torch.aminmax(image))
            fractions = model.expects_0_to_255 and 0 < high <= 1 and bool((image != image.round()).any())
            # An image that is not finite has no detections, and must not keep the others of its batch from theirs
            if math.isfinite(low + high) and (low < 0 or high > 255 or fractions):
                raise DataError(f"{name} has values from {low:.4g} to {high:.4g}: scale them to 0 to 255")
