"""Regions of an image, warped to the input of a network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def warp_regions(image: Tensor, boxes: Tensor, size: int, context: int) -> Tensor:
    """Return each region stretched to a square, with what surrounds it: (R, C, size, size), of the image's dtype.

    The region fills the square up to ``context`` pixels from each side, whatever its aspect ratio. Pixels are
    interpolated bilinearly; beyond the image everything is 0, which is its mean if it has been normalized.

    Args:
        image: (C, H, W) float.
        boxes: (R, 4) float, x0 y0 x1 y1 in the frame of ``image``, whose pixel i spans i to i + 1.
        size: Side of the squares, pixels.
        context: Pixels of the square on each side of the region; less than half of ``size``.

    Source: Girshick et al., arXiv 1311.2524, appendix A.
    """
    height, width = image.shape[1:]
    inside = torch.arange(size, dtype=boxes.dtype, device=boxes.device) + 0.5 - context  # centers of pixels
    steps = (boxes[:, 2:] - boxes[:, :2]) / (size - 2 * context)  # image pixels per pixel of the square
    x, y = (boxes[:, i, None] + inside * steps[:, i, None] for i in (0, 1))  # (R, size) each
    grid = torch.stack(
        [(2 * x / width - 1)[:, None, :].expand(-1, size, -1), (2 * y / height - 1)[:, :, None].expand(-1, -1, size)],
        dim=-1,
    )
    # As one tall picture, because images of a batch would need a copy of the image for each region
    tall = F.grid_sample(
        image[None],
        grid.reshape(1, len(boxes) * size, size, 2).to(image.dtype),
        "bilinear",
        "zeros",
        align_corners=False,
    )
    return tall.view(len(image), len(boxes), size, size).transpose(0, 1)
