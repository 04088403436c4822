"""Pasting of masks into images, without reading from the device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .chunks import rows_per_chunk


def paste_masks(masks: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float = 0.5) -> Tensor:
    """Return masks pasted into their boxes, (M, *size) bool: where the interpolated probability reaches a threshold.

    Args:
        masks: (M, h, w) float32, probabilities.
        boxes: (M, 4) float32, x0, y0, x1, y1 in pixels of the result; they may extend beyond it.
        size: Height and width of the result.
        threshold: Above 0.

    Source: Detectron2's ``paste_masks_in_image``, to the same bits; it reads from the device where that is a CPU.
    """
    pasted = torch.empty(len(masks), *size, dtype=torch.bool, device=masks.device)
    step = rows_per_chunk(4 * 4 * size[0] * size[1])  # the grid, and the mask before and after the threshold
    for chunk, to, out in zip(masks.split(step), boxes.split(step), pasted.split(step), strict=True):
        # Pixel centers, from -1 at the start of a box to 1 at its end.
        x, y = (
            (torch.arange(n, dtype=torch.float32, device=boxes.device) + 0.5 - start) / (stop - start) * 2 - 1
            for n, start, stop in ((size[1], to[:, :1], to[:, 2:3]), (size[0], to[:, 1:2], to[:, 3:]))
        )
        shape = (len(chunk), *size)
        grid = torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], dim=3)
        torch.ge(F.grid_sample(chunk[:, None], grid, align_corners=False)[:, 0], threshold, out=out)
    return pasted
