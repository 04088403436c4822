"""Instance masks: their overlaps, their boxes, and their way to another size, in bounded memory."""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK_FLOATS = 2**22  # of one intermediate tensor of the functions below: 16 MB
TILE = 256  # output rows and columns that are interpolated together: few source pixels, so a cheap matrix product


def mask_intersections(masks: Tensor, chunk_floats: int = CHUNK_FLOATS) -> Tensor:
    """The pixels that each two masks share, (M, M) float32; exact below 2**24 pixels.

    Args:
        masks: (M, h, w) bool.
        chunk_floats: the most pixels of all masks together that exist as floats at once.
    """
    pixels = masks.flatten(1)
    shared = torch.zeros(len(masks), len(masks), device=masks.device)
    with torch.autocast(masks.device.type, enabled=False):
        for chunk in pixels.split(max(chunk_floats // max(len(masks), 1), 1), dim=1):
            values = chunk.float()
            shared.addmm_(values, values.T)
    return shared


def mask_iou(masks: Tensor) -> Tensor:
    """The IoU of each two masks, (M, M) float32; 0 where both are empty.

    Args:
        masks: (M, h, w) bool.
    """
    shared = mask_intersections(masks)
    areas = shared.diagonal()
    return shared / (areas[:, None] + areas - shared).clamp(min=1)


def masks_to_boxes(masks: Tensor) -> Tensor:
    """The tight boxes of masks, (M, 4) float32 x0, y0, x1, y1 in pixels, right and bottom exclusive; 0 where empty.

    Args:
        masks: (M, h, w) bool.
    """
    values = masks.view(torch.uint8)  # whose maximum is many times faster on a CPU than any() of booleans
    x0, x1 = _extent(values.amax(dim=1)) if masks.numel() else (masks.new_zeros(len(masks), dtype=torch.int64),) * 2
    y0, y1 = _extent(values.amax(dim=2)) if masks.numel() else (x0, x1)
    return torch.stack([x0, y0, x1, y1], dim=1).float()


def _extent(present: Tensor) -> tuple[Tensor, Tensor]:
    """The first and one after the last place with a 1 in each row of (M, n) uint8; both 0 where there is none."""
    first = present.argmax(dim=1)
    end = present.shape[1] - present.flip(1).argmax(dim=1)
    return first, torch.where(present.amax(dim=1) > 0, end, 0)


def reduce_masks(masks: Tensor, size: tuple[int, int], chunk_floats: int = CHUNK_FLOATS) -> Tensor:
    """The masks at another size: (M, *size) bool. Interpolated bilinearly without antialiasing, then > 0.5.

    Args:
        masks: (M, h, w) bool.
        size: height and width of the result.
        chunk_floats: the most pixels of ``masks`` that exist as floats at once (at least one mask's).
    """
    if masks.shape[1:] == size:
        return masks
    reduced = torch.zeros(len(masks), *size, dtype=torch.bool, device=masks.device)
    step = max(chunk_floats // max(masks[0].numel(), 1), 1) if len(masks) else 1
    for chunk, out in zip(masks.split(step), reduced.split(step), strict=True):
        values = F.interpolate(chunk[:, None].float(), size, mode="bilinear", align_corners=False)
        torch.gt(values[:, 0], 0.5, out=out)
    return reduced


class AxisResize(NamedTuple):
    """How the pixels of one axis become those of another size: by a matrix, each row of which has few entries.

    Attributes:
        weights: (n_out, n_in) float32; each output pixel is the mean of source pixels with these weights.
        first: for each output pixel the first source pixel that it reads, ascending.
        last: for each output pixel the last source pixel that it reads, ascending.
    """

    weights: Tensor
    first: list[int]
    last: list[int]

    def reached_by(self, start: int, stop: int) -> tuple[int, int]:
        """The output pixels, first and one after the last, that read any of the source pixels ``start`` .. ``stop``."""
        return bisect_left(self.last, start), bisect_left(self.first, stop)

    def sources(self, start: int, stop: int) -> slice:
        """The source pixels that the output pixels ``start`` .. ``stop`` (not empty) read."""
        return slice(self.first[start], self.last[stop - 1] + 1)


def axis_resize(
    size: int, output_size: int, device: torch.device, scale: int = 1, crop: int | None = None
) -> AxisResize:
    """Bilinear resizing along one axis: by ``scale``, cropped to the first ``crop`` pixels, then to ``output_size``.

    The two interpolations in a row are one linear map, found by applying them to each source pixel alone; so it agrees
    with ``F.interpolate`` (``align_corners=False``, no antialiasing) whatever the sizes.

    Args:
        size: source pixels.
        output_size: output pixels.
        device: where the weights are wanted.
        scale: factor of the first interpolation.
        crop: pixels that remain of its result; None: all.
    """
    pixels = torch.eye(size)[None]
    if scale != 1:
        pixels = F.interpolate(pixels, scale_factor=scale, mode="linear", align_corners=False)
    pixels = pixels[..., :crop]
    if pixels.shape[-1] != output_size:
        pixels = F.interpolate(pixels, output_size, mode="linear", align_corners=False)
    weights = pixels[0].T.contiguous()
    read = (weights != 0).byte()
    first = read.argmax(dim=1)
    last = size - 1 - read.flip(1).argmax(dim=1)
    return AxisResize(weights.to(device), first.tolist(), last.tolist())


def resize_and_threshold_(
    masks: Tensor,
    probabilities: Tensor,
    rows: AxisResize,
    columns: AxisResize,
    threshold: float,
    chunk_floats: int = CHUNK_FLOATS,
) -> None:
    """Set in ``masks`` the pixels whose resized probability exceeds ``threshold``.

    A resized pixel is a mean of its source pixels, so only those that read a source pixel above the threshold can
    exceed it: the others, outside the window around each object, are never computed.

    Args:
        masks: (M, H, W) bool, all False; written in place.
        probabilities: (M, h, w) float32.
        rows: from h to H.
        columns: from w to W.
        threshold: not negative; compared strictly.
        chunk_floats: the most interpolated values that exist at once, and as many in between; one tile of one mask
            is the least.
    """
    boxes = masks_to_boxes(probabilities > threshold).int().tolist()  # the one wait for the device
    group = _group_size(probabilities, chunk_floats)
    for start in range(0, len(boxes), group):
        found = [box for box in boxes[start : start + group] if box[2] > box[0]]
        if not found:
            continue
        lefts, tops, rights, bottoms = zip(*found, strict=True)
        x0, x1 = columns.reached_by(min(lefts), max(rights))
        y0, y1 = rows.reached_by(min(tops), max(bottoms))
        if x0 >= x1 or y0 >= y1:
            continue  # all of it is cropped away
        here = slice(start, start + group)
        source = rows.sources(y0, y1)
        for x, x_stop in _tiles(x0, x1):
            read = columns.sources(x, x_stop)
            wide = probabilities[here, source, read] @ columns.weights[x:x_stop, read].T
            for y, y_stop in _tiles(y0, y1):
                read = rows.sources(y, y_stop)
                values = rows.weights[y:y_stop, read] @ wide[:, read.start - source.start : read.stop - source.start]
                torch.gt(values, threshold, out=masks[here, y:y_stop, x:x_stop])


def _tiles(start: int, stop: int) -> list[tuple[int, int]]:
    """The range in pieces of at most ``TILE``, each with its start and its end."""
    return [(i, min(i + TILE, stop)) for i in range(start, stop, TILE)]


def _group_size(probabilities: Tensor, chunk_floats: int) -> int:
    """How many masks share one window. On a CPU a loop costs less than pixels around objects, on a GPU the reverse."""
    if probabilities.device.type == "cpu":
        return 1
    return max(chunk_floats // (max(probabilities.shape[1], TILE) * TILE), 1)
