"""Instance masks: overlaps, boxes and resizing, in bounded memory."""

from __future__ import annotations

import functools
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .chunks import rows_per_chunk
from .host_reads import avoids_host_reads
from .precision import in_float32

ROW_PARTS = 8  # of masks that are compared in fixed shapes, each with every eighth row, to bound what is float32
TILE = 256  # output rows and columns interpolated together: few source pixels, so a cheap matrix product


def mask_intersections(masks: Tensor, classes: Tensor | None = None) -> Tensor:
    """Return the number of pixels that every pair of masks shares, (M, M) float32; exact below 2**24 pixels.

    Args:
        masks: (M, h, w) bool.
        classes: (M,) int64: pairs of different classes do not matter, and get 0 where that saves time.
    """
    pixels = masks.flatten(1)
    if classes is None or avoids_host_reads(masks.device):
        return _shared_pixels(pixels)
    shared = torch.zeros(len(masks), len(masks), device=masks.device)
    for rows in classes.argsort(stable=True).split(classes.bincount().tolist()):
        shared[rows[:, None], rows] = _shared_pixels(pixels[rows])
    return shared


def _shared_pixels(pixels: Tensor) -> Tensor:
    """Return the number of pixels that every pair of masks (M, P) bool shares, (M, M) float32."""
    if pixels.device.type == "cpu" and cpu_multiplies_int8():
        integers = pixels.to(torch.int8)
        return torch._int_mm(integers, integers.T).float()
    shared = torch.zeros(len(pixels), len(pixels), device=pixels.device)
    with in_float32(pixels):
        for chunk in pixels.split(rows_per_chunk(4 * len(pixels)), dim=1):
            values = chunk.float()
            shared.addmm_(values, values.T)
    return shared


@functools.cache
def cpu_multiplies_int8() -> bool:
    """Return whether this processor multiplies int8 numbers natively, and PyTorch with it: 4 times faster than float32.

    bfloat16 would be half as fast, because PyTorch rounds its sums to bfloat16, so that only 256 pixels can be added.
    """
    probes = ("_is_vnni_supported", "_is_avx512_vnni_supported", "_is_amx_tile_supported")  # names of several versions
    has_instructions = any(probe() for name in probes if (probe := getattr(torch.cpu, name, None)) is not None)
    return has_instructions and torch.backends.mkldnn.is_available() and hasattr(torch, "_int_mm")


def mask_iou(masks: Tensor, classes: Tensor | None = None) -> Tensor:
    """Return the IoU of every pair of masks, (M, M) float32; 0 where both are empty.

    Args:
        masks: (M, h, w) bool.
        classes: As in :func:`mask_intersections`.
    """
    return _iou_of(mask_intersections(masks, classes))


def batch_mask_iou(masks: Tensor) -> Tensor:
    """Return the IoU of every pair of masks of an image, (N, M, M) float32: :func:`mask_iou` in fixed shapes.

    Args:
        masks: (N, M, h, w) bool.
    """
    shared: Tensor | float = 0.0
    with in_float32(masks):
        for start in range(ROW_PARTS):
            pixels = masks[:, :, start::ROW_PARTS].flatten(2).float()
            shared = shared + pixels @ pixels.transpose(1, 2)
    assert isinstance(shared, Tensor)
    return _iou_of(shared)


def _iou_of(shared: Tensor) -> Tensor:
    """Return the IoUs of masks, (..., M, M), from the numbers of pixels that they share."""
    index = torch.arange(shared.shape[-1], device=shared.device)
    areas = shared[..., index, index]  # not diagonal(), which OpenVINO lacks
    return shared / (areas[..., :, None] + areas[..., None, :] - shared).clamp(min=1)


def masks_to_boxes(masks: Tensor) -> Tensor:
    """Return the tight boxes of masks, (M, 4) float32 x0 y0 x1 y1 in pixels, right and bottom exclusive; 0 if empty.

    Args:
        masks: (M, h, w) bool.
    """
    if not masks.numel():
        return torch.zeros(len(masks), 4, device=masks.device)
    # amax of bytes is many times faster on a CPU than any() of booleans. Traces cannot reinterpret them without a copy.
    values = masks.byte() if torch.jit.is_tracing() else masks.view(torch.uint8)
    (x0, x1), (y0, y1) = _extent(values.amax(dim=1)), _extent(values.amax(dim=2))
    return torch.stack([x0, y0, x1, y1], dim=1).float()


def _extent(present: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first index of a 1 and one past the last in each row of (M, n) uint8; both 0 if there is none."""
    first = present.argmax(dim=1)
    end = present.shape[1] - present.flip(1).argmax(dim=1)
    return first, torch.where(present.amax(dim=1) > 0, end, 0)


def extents_to_boxes(columns: Tensor, rows: Tensor) -> Tensor:
    """Return the tight boxes of masks, (..., 4) float32 as :func:`masks_to_boxes` does; can be exported.

    Runtimes do not agree on which of several equal values argmax finds, so the largest index is computed.

    Args:
        columns: (..., w), above 0 where a mask has a pixel.
        rows: (..., h), likewise.
    """
    sides = []
    for present in (columns, rows):
        size = present.shape[-1]
        index = torch.arange(size, device=present.device)
        end = torch.where(present > 0, index + 1, 0).amax(dim=-1)
        from_start = torch.where(present > 0, size - index, 0).amax(dim=-1)
        sides.append((torch.where(end > 0, size - from_start, 0), end))
    (x0, x1), (y0, y1) = sides
    return torch.stack([x0, y0, x1, y1], dim=-1).float()


def mask_windows(masks: Tensor) -> Iterator[tuple[slice, slice, slice]]:
    """Yield windows of masks, rows and columns that together have every set pixel.

    On a CPU, where the pixels around small objects would take most of the time, there is a tight one for each mask that
    is not empty. Elsewhere there is one for everything, which needs no synchronization.

    Args:
        masks: (M, h, w) bool.
    """
    if avoids_host_reads(masks.device):
        yield slice(0, len(masks)), slice(0, masks.shape[1]), slice(0, masks.shape[2])
        return
    for i, (x0, y0, x1, y1) in enumerate(masks_to_boxes(masks).int().tolist()):
        if x1 > x0:
            yield slice(i, i + 1), slice(y0, y1), slice(x0, x1)


def reduce_masks(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Return masks at another size, (M, *size) bool: bilinear interpolation without antialiasing, then > 0.5.

    Only pixels in the window around each object, or on a GPU around some of them, are interpolated.

    Args:
        masks: (M, h, w) bool.
        size: Height and width of the result.
    """
    if masks.shape[1:] == size:
        return masks
    reduced = torch.zeros(len(masks), *size, dtype=torch.bool, device=masks.device)
    rows, columns = (axis_resize(n, out, masks.device) for n, out in zip(masks.shape[1:], size, strict=True))
    step = rows_per_chunk(4 * masks.shape[1] * masks.shape[2])
    with in_float32(masks):
        for chunk, out in zip(masks.split(step), reduced.split(step), strict=True):
            resize_and_threshold_(out, chunk, rows, columns, 0.5)
    return reduced


class AxisResize(NamedTuple):
    """Resizing along one axis as a matrix with few non-zero entries per row.

    Attributes:
        weights: (n_out, n_in) float32; each output pixel is the mean of source pixels with these weights.
        first: First source pixel that each output pixel reads, or one before it, ascending.
        last: Last source pixel that each output pixel reads, or one behind it, ascending.
    """

    weights: Tensor
    first: list[int]
    last: list[int]

    def reached_by(self, start: int, stop: int) -> tuple[int, int]:
        """Return the range of output pixels, end exclusive, that read any of the source pixels ``start``..``stop``."""
        return bisect_left(self.last, start), bisect_left(self.first, stop)

    def sources(self, start: int, stop: int) -> slice:
        """Return the source pixels that the output pixels ``start``..``stop`` (not empty) read."""
        return slice(self.first[start], self.last[stop - 1] + 1)


def axis_resize(
    size: int, output_size: int, device: torch.device, scale: int = 1, crop: int | None = None
) -> AxisResize:
    """Return bilinear resizing along one axis: by ``scale``, cropped to ``crop`` pixels, then to ``output_size``.

    Two interpolations in a row are one linear map, which is found by applying them to each source pixel alone. It
    therefore agrees with ``F.interpolate`` (``align_corners=False``, no antialiasing) for any size.

    Args:
        size: Number of source pixels.
        output_size: Number of output pixels.
        device: Device of the weights.
        scale: Factor of the first interpolation.
        crop: Number of pixels to keep of its result; None for all.
    """
    pixels = torch.eye(size, device=device)[None]
    if scale != 1:
        pixels = F.interpolate(pixels, scale_factor=scale, mode="linear", align_corners=False)
    pixels = pixels[..., :crop]
    step = pixels.shape[-1] / (scale * output_size)  # source pixels per output pixel
    if pixels.shape[-1] != output_size:
        pixels = F.interpolate(pixels, output_size, mode="linear", align_corners=False)
    weights = pixels[0].T.contiguous()
    if avoids_host_reads(device):
        # Each of the two interpolations reads up to one pixel beyond the ends of an output pixel.
        first = [max(int(i * step) - 2, 0) for i in range(output_size)]
        last = [min(int((i + 1) * step) + 2, size - 1) for i in range(output_size)]
        return AxisResize(weights, first, last)
    read = (weights != 0).byte()
    return AxisResize(weights, read.argmax(dim=1).tolist(), (size - 1 - read.flip(1).argmax(dim=1)).tolist())


def resize_and_threshold_(
    masks: Tensor,
    probabilities: Tensor,
    rows: AxisResize,
    columns: AxisResize,
    threshold: float,
) -> None:
    """Set the pixels of ``masks`` whose resized probability exceeds ``threshold``, in place.

    A resized pixel is a mean of its source pixels, so it can exceed the threshold only if one of them does. On a CPU,
    pixels outside the window around each object are never computed.

    Args:
        masks: (M, H, W) bool, all False; written in place.
        probabilities: (M, h, w) float32, or bool for 0 and 1.
        rows: Resizing from h to H.
        columns: Resizing from w to W.
        threshold: Non-negative, below 1; compared strictly.
    """
    for here, left, top, right, bottom in _object_windows(probabilities, threshold):
        x0, x1 = columns.reached_by(left, right)
        y0, y1 = rows.reached_by(top, bottom)
        if x0 >= x1 or y0 >= y1:
            continue  # cropped away entirely
        source = rows.sources(y0, y1)
        for x, x_stop in _tiles(x0, x1):
            read = columns.sources(x, x_stop)
            wide = probabilities[here, source, read].float() @ columns.weights[x:x_stop, read].T
            for y, y_stop in _tiles(y0, y1):
                read = rows.sources(y, y_stop)
                values = rows.weights[y:y_stop, read] @ wide[:, read.start - source.start : read.stop - source.start]
                torch.gt(values, threshold, out=masks[here, y:y_stop, x:x_stop])


def _object_windows(probabilities: Tensor, threshold: float) -> Iterator[tuple[slice, int, int, int, int]]:
    """Yield which masks to resize together, and the left, top, right and bottom of the pixels above the threshold.

    One mask at a time on a CPU; elsewhere groups in bounded memory, with the whole size.
    """
    num_masks, height, width = probabilities.shape
    if avoids_host_reads(probabilities.device):
        group = rows_per_chunk(2 * 4 * max(height, TILE) * TILE)  # one axis resized, then both
        for start in range(0, num_masks, group):
            yield slice(start, start + group), 0, 0, width, height
        return
    above = probabilities if probabilities.dtype == torch.bool else probabilities > threshold
    for i, (x0, y0, x1, y1) in enumerate(masks_to_boxes(above).int().tolist()):
        if x1 > x0:
            yield slice(i, i + 1), x0, y0, x1, y1


def _tiles(start: int, stop: int) -> list[tuple[int, int]]:
    """Return the range in pieces of at most ``TILE``, as (start, stop) pairs."""
    return [(i, min(i + TILE, stop)) for i in range(start, stop, TILE)]
