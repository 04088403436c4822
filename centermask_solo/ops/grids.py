"""Coordinate channels of feature maps."""

from __future__ import annotations

import torch
from torch import Tensor


def coordinate_channels(height: int, width: int, *, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return two channels with the position of each pixel, x first: (2, height, width), from -1 to 1 inclusive.

    Args:
        height, width: Size of the map in pixels. The coordinate along an axis of one pixel is -1.
        device, dtype: Device and dtype of the result; half precision is rounded from float32.

    Source: SOLOv2 (arXiv 2003.10152), section 3.2; CoordConv.
    """
    x, y = (_evenly_spaced(n, device, torch.promote_types(dtype, torch.float32)).to(dtype) for n in (width, height))
    return torch.stack((x.expand(height, width), y[:, None].expand(height, width)))


def _evenly_spaced(count: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return ``count`` numbers from -1 to 1, (count,): ``torch.linspace`` in operations that trace with any size.

    The result is the same on every device; the vectorized ``linspace`` of a CPU may differ in the last bit.
    """
    index = torch.arange(count, device=device, dtype=dtype)
    last = index[-1:]  # a tensor, because OpenVINO cannot divide sizes that are not known yet
    step = 2 / last.clamp(min=1)
    half = ((last + 1) / 2).floor().clamp(min=1)
    return torch.where(index < half, step * index - 1, 1 - step * (last - index))


def append_coordinates(features: Tensor) -> Tensor:
    """Append the two :func:`coordinate_channels` of a feature map to its channels.

    Args:
        features: (N, C, Hi, Wi).

    Returns:
        (N, C + 2, Hi, Wi), same dtype and device.
    """
    channels = coordinate_channels(*features.shape[-2:], device=features.device, dtype=features.dtype)
    return torch.cat((features, channels.expand(features.shape[0], -1, -1, -1)), dim=1)
