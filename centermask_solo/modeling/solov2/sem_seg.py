"""Semantic segmentation beside the instances: its loss, and its maps of the output size in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ...ops.chunks import rows_per_chunk
from ...structures.label_map import LabelMap
from ..parts_of_batch import per_part, total


def sem_seg_loss(logits: Tensor, labels: Tensor, stride: int, ignore_value: int) -> Tensor:
    """Return the mean cross entropy of all labeled pixels of the batch, a float32 scalar; 0 but connected without any.

    Args:
        logits: (N, C, T_h / stride, T_w / stride).
        labels: (N, T_h, T_w) int64, 0..C-1 or ``ignore_value``.
        stride: Input pixels per pixel of the logits, which are interpolated by this factor.
        ignore_value: Label of pixels that do not count.

    Source: Panoptic-FPN (arXiv 1901.02446), section 3; Detectron2's ``SemSegFPNHead.losses``.
    Differs: the latter is NaN for a batch without labeled pixels.
    """
    upsampled = F.interpolate(logits.float(), scale_factor=stride, mode="bilinear", align_corners=False)
    loss = F.cross_entropy(upsampled, labels, reduction="sum", ignore_index=ignore_value)
    return loss / per_part(total("labeled pixels", (labels != ignore_value).sum()).clamp(min=1))


@torch.no_grad()
def sem_seg_map(
    logits: Tensor, stride: int, image_size: tuple[int, int], output_size: tuple[int, int], max_bytes: float
) -> tuple[Tensor | LabelMap, Tensor]:
    """Return the logits of one image at ``output_size``, (C, H, W) float32, and the best class of each pixel, (H, W).

    Pixels near non-finite logits have logits of 0; of equal classes the first is the best one.

    Args:
        logits: (C, T_h / stride, T_w / stride).
        stride: Input pixels per pixel of the logits.
        image_size: Height and width of the image in the network input, without padding.
        output_size: H and W.
        max_bytes: Size of the logits above which a :class:`LabelMap` takes their place.

    Source: Detectron2's ``sem_seg_postprocess``, a few classes at a time.
    """
    num_classes, (height, width) = len(logits), output_size
    best = torch.full(output_size, -torch.inf, device=logits.device)
    labels = torch.zeros(output_size, dtype=torch.int64, device=logits.device)
    whole = None
    if 4 * num_classes * height * width <= max_bytes:
        whole = torch.empty(num_classes, height, width, device=logits.device)
    start = 0
    for chunk in _upsampled(logits, stride, image_size, output_size):
        if whole is not None:
            whole[start : start + len(chunk)] = chunk
        values, classes = chunk.max(dim=0)
        better = values > best
        best = torch.where(better, values, best)
        labels = torch.where(better, classes + start, labels)
        start += len(chunk)
    return LabelMap(labels, num_classes) if whole is None else whole, labels


def _upsampled(
    logits: Tensor, stride: int, image_size: tuple[int, int], output_size: tuple[int, int]
) -> Iterator[Tensor]:
    """Yield the logits of a few classes at a time at ``output_size``, (c, H, W) float32."""
    finite = logits.isfinite().all(dim=0)
    padded_pixels = stride * stride * finite.numel()
    for chunk in logits.split(rows_per_chunk(4 * (padded_pixels + output_size[0] * output_size[1]))):
        x = torch.where(finite, chunk, 0.0).float()[None]
        x = F.interpolate(x, scale_factor=stride, mode="bilinear", align_corners=False)
        x = x[..., : image_size[0], : image_size[1]]
        yield F.interpolate(x, output_size, mode="bilinear", align_corners=False)[0]
