"""Grids: coordinate channels of a feature map, and the cells of a grid that points fall into."""

from __future__ import annotations

import torch
from torch import Tensor


def coordinate_channels(height: int, width: int, *, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Two channels with each pixel's position, x first: (2, height, width), from -1 to 1 with both ends included.

    Args:
        height, width: size of the map in pixels. An axis of one pixel has the coordinate -1.
        device, dtype: of the result.

    Source: SOLOv2 (arXiv 2003.10152), section 3.2; CoordConv.
    """
    x = torch.linspace(-1, 1, width, device=device, dtype=dtype)
    y = torch.linspace(-1, 1, height, device=device, dtype=dtype)
    return torch.stack((x.expand(height, width), y[:, None].expand(height, width)))


def append_coordinates(features: Tensor) -> Tensor:
    """``features`` with the two :func:`coordinate_channels` of their own size after the last channel.

    Args:
        features: (N, C, Hi, Wi).

    Returns:
        (N, C + 2, Hi, Wi), same dtype and device.
    """
    channels = coordinate_channels(*features.shape[-2:], device=features.device, dtype=features.dtype)
    return torch.cat((features, channels.expand(len(features), -1, -1, -1)), dim=1)
