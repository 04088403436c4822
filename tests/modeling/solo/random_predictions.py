"""Predictions of both kinds of head, with masks of all sizes."""

from __future__ import annotations

import torch

from centermask_solo.modeling.solo import DecoupledPredictions, SOLOPredictions
from centermask_solo.modeling.solo.predictions import Predictions

GRIDS = [5, 4, 3]
STRIDES = [8, 16, 32]
SIZE = (16, 24)  # of a mask at stride 4
KINDS = ["plain", "decoupled"]


def random_predictions(kind: str, seed: int = 0, num_images: int = 1, num_classes: int = 4) -> Predictions:
    """Random predictions for images of 64 x 96 pixels; smooth, as networks' outputs are."""
    rng = torch.Generator().manual_seed(seed)

    def maps(channels: int, stride: int) -> torch.Tensor:
        coarse = torch.randn(num_images, channels, 3, 3, generator=rng)
        size = (64 // stride, 96 // stride)
        return torch.nn.functional.interpolate(coarse, size, mode="bilinear") + 0.1

    classes = [torch.randn(num_images, num_classes, s, s, generator=rng) - 1 for s in GRIDS]
    if kind == "plain":
        features = [maps(6, stride) for stride in STRIDES]
        kernels = [torch.randn(s * s, 6, 1, 1, generator=rng) * 3 for s in GRIDS]
        return SOLOPredictions(classes, features, kernels, [torch.randn(s * s, generator=rng) for s in GRIDS])
    columns, rows = ([3 * maps(s, d // 2) + 1 for s, d in zip(GRIDS, STRIDES, strict=True)] for _ in range(2))
    return DecoupledPredictions(classes, columns, rows)
