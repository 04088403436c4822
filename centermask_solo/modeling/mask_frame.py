"""What the masks of detections of fixed shape mean, and how they become masks of the input's size inside a graph."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class MaskFrame(NamedTuple):
    """What the masks (N, K, h, w) of a model's ``mask_probabilities`` mean.

    Attributes:
        frame: "input" if each spans the network's input, "box" if it spans its box, "none" if the model has no masks.
        stride: Input pixels per mask pixel; 0 if a mask spans the input, whatever its size.
        threshold: Probability of the pixels of an object: exceeded in the frame of the input, reached in that of a box.
        whole_boxes: Whether the mask of a box that is partly outside of the image spans all of it, not the part inside.
        boxes: Whether the boxes of detections are those around their masks.
    """

    frame: str = "none"
    stride: int = 0
    threshold: float = 0.5
    whole_boxes: bool = False
    boxes: bool = False


def paste_in_graph(
    masks: Tensor, boxes: Tensor, frame: MaskFrame, image_sizes: Tensor, size: tuple[int, int]
) -> Tensor:
    """Return masks of the size of the input, (N, K, H, W) bool; can be exported.

    Args:
        masks: (N, K, h, w) float32 probabilities.
        boxes: (N, K, 4) x0, y0, x1, y1 in input pixels.
        frame: What the masks mean.
        image_sizes: (N, 2) int64, height and width of each image, to which boxes are clipped.
        size: H and W.
    """
    if frame.frame == "box":
        return _paste_boxes(masks, boxes, frame, image_sizes, size)
    if not frame.stride:
        return F.interpolate(masks, size, mode="bilinear", align_corners=False) > frame.threshold
    enlarged = (masks.shape[2] * frame.stride, masks.shape[3] * frame.stride)
    resized = F.interpolate(masks, enlarged, mode="bilinear", align_corners=False)
    return resized[:, :, : size[0], : size[1]] > frame.threshold


def _paste_boxes(masks: Tensor, boxes: Tensor, frame: MaskFrame, image_sizes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return masks in boxes at the size of the input: bilinear along each axis, a matrix product per mask."""
    if not frame.whole_boxes:
        limits = image_sizes.flip(1).repeat(1, 2)[:, None].to(boxes.dtype)
        boxes = torch.minimum(boxes.clamp(min=0), limits)
    weights = []
    for start, n_in, n_out in ((1, masks.shape[2], size[0]), (0, masks.shape[3], size[1])):
        first, last = boxes[:, :, start, None], boxes[:, :, start + 2, None]
        pixels = torch.arange(n_out, device=boxes.device, dtype=boxes.dtype) + 0.5
        positions = (pixels - first) / (last - first).clamp(min=1e-6) * n_in - 0.5  # (N, K, n_out)
        cells = torch.arange(n_in, device=boxes.device, dtype=boxes.dtype)
        weights.append((1 - (positions[..., None] - cells).abs()).clamp(min=0))
    rows, columns = weights
    return rows @ masks @ columns.transpose(2, 3) >= frame.threshold
