"""From the ``Instances`` of a training batch to the tensors that SOLOv2's targets are computed from."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from detectron2.structures import Instances
from torch import Tensor

from ...ops.masks import mask_windows
from ..ground_truth import mask_chunks, to_device

MASK_STRIDE = 4  # input pixels per pixel of the mask features


class MaskSummary(NamedTuple):
    """What the targets need of the masks of a batch's M instances.

    Attributes:
        areas: (M,) int64, number of set pixels.
        moments: (M, 2) int64, sums of the x and y indices of the set pixels; the center of mass times the area.
        reduced: (M, T_h / 4, T_w / 4) bool.
    """

    areas: Tensor
    moments: Tensor
    reduced: Tensor


class GroundTruth(NamedTuple):
    """The ground truth of a batch of N images.

    Attributes:
        boxes: N x (M, 4) float, x0 y0 x1 y1 in input pixels.
        classes: N x (M,) int64.
        masks: Summary of the masks of all images, image by image.
    """

    boxes: list[Tensor]
    classes: list[Tensor]
    masks: MaskSummary


def convert_ground_truth(gt_instances: list[Instances], map_size: tuple[int, int], device: torch.device) -> GroundTruth:
    """Return the ground truth of a batch on ``device``.

    Args:
        gt_instances: N ``Instances`` in the frame of the unpadded input, with ``gt_boxes``, ``gt_classes`` and
            ``gt_masks`` (``BitMasks``, ``PolygonMasks`` or a bool tensor (M, h, w)).
        map_size: Height and width of the mask features, T_h / 4 and T_w / 4.
        device: Device of the result.

    Raises:
        DataError: Masks are missing.
    """
    chunks = chain.from_iterable(mask_chunks(x, range(len(x)), device) for x in gt_instances)
    return GroundTruth(
        boxes=[to_device(x.gt_boxes.tensor, device) for x in gt_instances],
        classes=[to_device(x.gt_classes, device, torch.int64) for x in gt_instances],
        masks=summarize_masks(chunks, sum(len(x) for x in gt_instances), map_size, device),
    )


def summarize_masks(
    mask_chunks: Iterable[Tensor], num_instances: int, map_size: tuple[int, int], device: torch.device
) -> MaskSummary:
    """Return areas, centers and reduced masks of a batch's instances from chunks of full-size masks.

    Args:
        mask_chunks: (m, h, w) bool masks, each chunk at the size of its own image; all images in order.
        num_instances: M, of all images.
        map_size: Height and width of the mask features, T_h / 4 and T_w / 4.
        device: Device of the result.
    """
    areas = torch.zeros(num_instances, dtype=torch.int64, device=device)
    moments = torch.zeros(num_instances, 2, dtype=torch.int64, device=device)
    reduced = torch.zeros(num_instances, *map_size, dtype=torch.bool, device=device)
    start = 0
    for masks in mask_chunks:
        rows = slice(start, start + len(masks))
        areas[rows], moments[rows] = areas_and_moments(masks)
        small = quarter_masks(masks)
        reduced[rows, : small.shape[1], : small.shape[2]] = small
        start += len(masks)
    return MaskSummary(areas, moments, reduced)


def areas_and_moments(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Return areas (m,) and sums of x and y indices (m, 2), int64 and exact, of masks (m, h, w) bool."""
    areas = torch.zeros(len(masks), dtype=torch.int64, device=masks.device)
    moments = torch.zeros(len(masks), 2, dtype=torch.int64, device=masks.device)
    for window in mask_windows(masks):
        which, rows, columns = window
        areas[which], moments[which] = _areas_and_moments(masks[window], rows.start, columns.start)
    return areas, moments


def _areas_and_moments(masks: Tensor, top: int, left: int) -> tuple[Tensor, Tensor]:
    """Return areas (m,) and sums of x and y indices (m, 2), int64 and exact, of windows (m, h, w) of masks.

    Args:
        masks: (m, h, w) bool, all set pixels of the masks.
        top: Index of the first row.
        left: Index of the first column.
    """
    height, width = masks.shape[-2:]
    pixels = masks.view(torch.uint8).float()  # counts of a row or column are exact below 2^24
    per_column, per_row = pixels.sum(1).long(), pixels.sum(2).long()
    x = (per_column * torch.arange(left, left + width, device=masks.device)).sum(1)
    y = (per_row * torch.arange(top, top + height, device=masks.device)).sum(1)
    return per_row.sum(1), torch.stack((x, y), dim=1)


def quarter_masks(masks: Tensor) -> Tensor:
    """Return masks at a quarter of their size, bit for bit as OpenCV's bilinear resize of 0/1 bytes.

    Where both sides are multiples of 4, a pixel is set if at least two of the four central pixels of its 4 x 4 block
    are. Objects of a few pixels can vanish.

    Args:
        masks: (M, h, w) bool.

    Returns:
        (M, int(h / 4 + 0.5), int(w / 4 + 0.5)) bool.

    Source: the published training code, whose resize uses fixed-point arithmetic with rounded weights of 11 bits.
    """
    row_taps, column_taps = (_resize_taps(n) for n in masks.shape[-2:])
    reduced = masks.new_zeros(len(masks), len(row_taps.first), len(column_taps.first))
    for which, rows, columns in mask_windows(masks):
        y, x = row_taps.reached_by(rows), column_taps.reached_by(columns)
        taps = (row_taps.part(y, masks.device), column_taps.part(x, masks.device))
        reduced[which, y, x] = _quarter_window(masks[which].view(torch.uint8), *taps)
    return reduced


class _Taps(NamedTuple):
    """The two source pixels that each output pixel of an axis reads: ascending int64 indices, and int32 weights."""

    first: np.ndarray
    last: np.ndarray
    first_weights: np.ndarray
    last_weights: np.ndarray

    def part(self, which: slice, device: torch.device) -> _TapTensors:
        """Return the taps of some output pixels on a device, which does not wait for them."""
        return _TapTensors(*(torch.from_numpy(x[which]).to(device, non_blocking=True) for x in self))

    def reached_by(self, source: slice) -> slice:
        """Return the output pixels that read any of the source pixels."""
        return slice(int(self.last.searchsorted(source.start)), int(self.first.searchsorted(source.stop)))


class _TapTensors(NamedTuple):
    """:class:`_Taps` on a device."""

    first: Tensor
    last: Tensor
    first_weights: Tensor
    last_weights: Tensor


def _quarter_window(pixels: Tensor, rows: _TapTensors, columns: _TapTensors) -> Tensor:
    """Return the output pixels with these taps, (m, rows, columns) bool, of masks (m, h, w) uint8."""

    def horizontal(indices: Tensor) -> Tensor:
        source = pixels.index_select(1, indices)
        left, right = (source.index_select(2, i) for i in (columns.first, columns.last))
        return left * columns.first_weights + right * columns.last_weights  # int32, 0..2048

    top = (rows.first_weights[:, None] * (horizontal(rows.first) >> 4)) >> 16
    bottom = (rows.last_weights[:, None] * (horizontal(rows.last) >> 4)) >> 16
    return ((top + bottom + 2) >> 2) > 0


def _resize_taps(size: int) -> _Taps:
    """Return the source pixels of an axis reduced by 4, with weights of 2048."""
    reduced = int(size / MASK_STRIDE + 0.5)
    position = ((np.arange(reduced) + 0.5) * (size / max(reduced, 1)) - 0.5).astype(np.float32)
    first = np.floor(position)
    index = first.astype(np.int64)
    is_outside = (index < 0) | (index >= size - 1)
    fraction = np.where(is_outside, np.float32(0), position - first)
    index = index.clip(0, max(size - 1, 0))
    weights = (np.rint(x * np.float32(2048)).astype(np.int32) for x in (np.float32(1) - fraction, fraction))
    return _Taps(index, (index + 1).clip(max=max(size - 1, 0)), *weights)
