"""Images on their way into a model: normalized, resized and padded, without a wait of the host for the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from detectron2.structures import ImageList
from torch import Tensor

from .parts_of_batch import pad_as_whole


def normalize(model: Any, image: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """Return an image (C, h, w) on the device of a model, normalized.

    Args:
        model: Has ``device``, ``pixel_mean`` and ``pixel_std``.
        image: On any device.
        size: (height, width) to which it is resized before, unless None or its size.
    """
    image = image.to(model.device, non_blocking=True)
    if size is not None and tuple(image.shape[1:]) != size:
        image = F.interpolate(image.float()[None], size, mode="bilinear", align_corners=False)[0]
    return (image - model.pixel_mean) / model.pixel_std


def normalized_batch(model: Any, batched_inputs: Sequence[dict[str, Any]]) -> ImageList:
    """Return normalized images as one batch, padded as the backbone wants them, and as the whole batch is of a part."""
    images = [normalize(model, x["image"]) for x in batched_inputs]
    backbone = model.backbone
    constraints = backbone.padding_constraints
    return pad_as_whole(ImageList.from_tensors(images, backbone.size_divisibility, padding_constraints=constraints))
