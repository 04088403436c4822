"""Training targets of RoI masks and of their predicted IoU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from detectron2.structures import BitMasks, PolygonMasks
from detectron2.structures.masks import polygon_area
from torch import Tensor
from torchvision.ops import roi_align

from ...ops.chunks import rows_per_chunk
from ...ops.polygons import count_polygon_pixels, crossing_chunks, draw_lines, fill_polygons

_MIN_CROP_RATIO = 1e-10
_MASK_BYTES = 16  # that intermediate tensors take for a pixel of a polygon's mask target


class MaskTargets(NamedTuple):
    """The targets of R RoIs."""

    masks: Tensor  # (R, side, side) bool, the object within the RoI
    crop_ratios: Tensor  # (R,) float32, share of the object's area that lies in the RoI, 1e-10..1


@torch.no_grad()
def mask_targets(
    gt_masks: Sequence[PolygonMasks | BitMasks | None], boxes: Sequence[Tensor], index: Sequence[Tensor], side: int
) -> MaskTargets:
    """Return the targets of the RoIs of a batch, image by image.

    The host reads the index of the RoIs once, unless it is there, and what targets from polygons read.

    Args:
        gt_masks: Masks of the objects of each image in input pixels; None is enough for images without RoIs.
        boxes: N x (R, 4) float, RoIs in input pixels, not clipped.
        index: N x (R,) int64, the object of each RoI, among those of its image.
        side: Cells per side of the mask targets.
    """
    objects: list[int] = torch.cat(list(index)).tolist()
    polygons: list[list[np.ndarray]] = []  # of all images
    own, of_bitmasks, start = [], [], 0
    for masks, rois in zip(gt_masks, boxes, strict=True):
        of_image = objects[start : start + len(rois)]
        start += len(rois)
        if isinstance(masks, PolygonMasks):
            own += [len(polygons) + i for i in of_image]
            polygons += masks.polygons
        elif isinstance(masks, BitMasks):
            of_bitmasks.append(bitmask_mask_targets(masks.tensor, rois, of_image, side))
        elif of_image:
            raise ValueError(f"gt_masks must be PolygonMasks or BitMasks, not {type(masks).__name__}")
    if not of_bitmasks:
        return polygon_mask_targets(polygons, torch.cat(list(boxes)), own, side)
    if polygons:
        raise ValueError("the images of a batch have PolygonMasks and BitMasks: load all of them in one form")
    return MaskTargets(*(torch.cat(x) for x in zip(*of_bitmasks, strict=True)))


@torch.no_grad()
def polygon_mask_targets(
    polygons: Sequence[Sequence[np.ndarray]], boxes: Tensor, index: Sequence[int], side: int
) -> MaskTargets:
    """Return the targets of RoIs from polygons, on the device of the RoIs, all together; the host reads once.

    Args:
        polygons: For each object its polygons, each x, y, x, y, ... in input pixels.
        boxes: (R, 4) float, RoIs in input pixels, not clipped.
        index: R; the object of each RoI.
        side: Cells per side of the mask targets.

    Source: masks as in Detectron2. Crop ratio as in the authors' code: the pixels of the object on the RoI's canvas,
        whose size is truncated to integers, summed over the polygons, over the sum of the polygons' areas.
    Differs: the area is computed once per object, not once per RoI; pixels are counted without drawing them.
    """
    device = boxes.device
    outlines = _outlines(polygons, index)
    areas = {i: sum(polygon_area(p[0::2], p[1::2]) for p in polygons[i]) for i in set(index)}
    object_areas = torch.tensor([areas[i] for i in index], dtype=torch.float64).to(device, non_blocking=True)
    rois = _on(device, outlines.rois)
    edge_polygons = _on(device, np.repeat(np.arange(len(rois)), outlines.num_edges))

    # Two canvases of each polygon: the RoI at the size of the mask, and at its own.
    boxes = boxes.float()
    corners, extents = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    scales = torch.full_like(extents, side) / extents.clamp(min=0.1)
    sizes = extents.long().flip(1)[rois]
    of_edges = rois[edge_polygons]
    starts, ends = (_on(device, x) - corners[of_edges] for x in (outlines.starts, outlines.ends))
    large = draw_lines(starts, ends, edge_polygons, sizes)
    starts, ends = starts * scales[of_edges], ends * scales[of_edges]
    small = draw_lines(starts, ends, edge_polygons, torch.full_like(sizes, side))
    numbers = torch.stack([x.crossings_per_polygon() for x in (small, large)])
    on_host = numbers.tolist()

    # Pixels of each polygon on both.
    num_edges = outlines.num_edges.tolist()
    layers = torch.zeros(len(boxes), side, side, dtype=torch.int16, device=device)
    for which, crossings in crossing_chunks(small, num_edges, numbers[0], on_host[0], _MASK_BYTES * side * side):
        layers.index_add_(0, rois[which], fill_polygons(crossings, side, side).to(torch.int16))
    pixels = torch.zeros(len(boxes), dtype=torch.int64, device=device)
    for which, crossings in crossing_chunks(large, num_edges, numbers[1], on_host[1], 0):
        pixels.index_add_(0, rois[which], count_polygon_pixels(crossings, sizes[which].clamp(min=0).prod(dim=1)))
    ratios = (pixels / object_areas.clamp(min=_MIN_CROP_RATIO)).float().clamp(_MIN_CROP_RATIO, 1.0)
    return MaskTargets(layers > 0, ratios)


def _on(device: torch.device, values: np.ndarray) -> Tensor:
    """Return an array as a tensor on a device that does not wait for it."""
    return torch.from_numpy(values).to(device, non_blocking=True)


class _Outlines(NamedTuple):
    """The edges of the polygons of RoIs: E edges of P polygons.

    Attributes:
        rois: (P,) int64, ascending; RoI of each polygon.
        num_edges: (P,) int64.
        starts: (E, 2) float64, x and y, polygon by polygon.
        ends: (E, 2) float64.
    """

    rois: np.ndarray
    num_edges: np.ndarray
    starts: np.ndarray
    ends: np.ndarray


def _outlines(polygons: Sequence[Sequence[np.ndarray]], index: Sequence[int]) -> _Outlines:
    """Return the edges of the polygons of RoIs; arguments as in :func:`polygon_mask_targets`."""
    flat = [np.asarray(p, dtype=np.float64).reshape(-1, 2) for parts in polygons for p in parts]
    points = np.concatenate([np.zeros((0, 2)), *flat])
    objects = np.asarray(index, dtype=np.int64)
    rois, rows = _ranges(np.array([len(x) for x in polygons], dtype=np.int64), objects)
    lengths = np.array([len(p) for p in flat], dtype=np.int64)
    which, corners = _ranges(lengths, rows)
    firsts = (lengths.cumsum() - lengths)[rows][which]
    following = firsts + (corners - firsts + 1) % lengths[rows][which]
    return _Outlines(rois, lengths[rows], points[corners], points[following])


def _ranges(lengths: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of ``chosen`` among consecutive groups of these lengths: the place in ``chosen``, and the row."""
    numbers = lengths[chosen]
    owners = np.repeat(np.arange(len(chosen)), numbers)
    within = np.arange(len(owners)) - (numbers.cumsum() - numbers)[owners]
    return owners, (lengths.cumsum() - lengths)[chosen][owners] + within


@torch.no_grad()
def bitmask_mask_targets(masks: Tensor, boxes: Tensor, index: Sequence[int], side: int) -> MaskTargets:
    """Return the targets of the RoIs of one image from bitmasks, on the device of the RoIs, a few objects at a time.

    Args:
        masks: (M, H, W) bool, the objects in input pixels, on any device.
        boxes: (R, 4) float, RoIs in input pixels, not clipped.
        index: R; the object of each RoI.
        side: Cells per side of the mask targets.

    Source: masks as ``BitMasks.crop_and_resize`` of Detectron2. Crop ratio: the object's pixels whose centers lie in
        the RoI, over all its pixels.
    """
    device = boxes.device
    crops = torch.zeros((len(boxes), side, side), dtype=torch.bool, device=device)
    ratios = torch.full((len(boxes),), _MIN_CROP_RATIO, device=device)
    step = rows_per_chunk(4 * masks.shape[1] * masks.shape[2])
    objects, places = np.unique(np.asarray(index, dtype=np.int64), return_inverse=True)  # most may have no RoI
    for start in range(0, len(objects), step):
        chunk = masks[_on(masks.device, objects[start : start + step])].to(device, non_blocking=True).float()
        total = chunk.sum(dim=(1, 2))
        found = np.flatnonzero((places >= start) & (places < start + step))
        own_objects = _on(device, places[found] - start)
        for rows, own_index in zip(_on(device, found).split(step), own_objects.split(step), strict=True):
            own_boxes = boxes[rows].float()
            rois = torch.cat([own_index[:, None].float(), own_boxes], dim=1)
            crops[rows] = roi_align(chunk[:, None], rois, side, aligned=True)[:, 0] >= 0.5
            inside = _sum_inside_boxes(chunk[own_index], own_boxes)
            ratios[rows] = (inside / total[own_index].clamp(min=1)).clamp(_MIN_CROP_RATIO, 1.0)
    return MaskTargets(crops, ratios)


def _sum_inside_boxes(masks: Tensor, boxes: Tensor) -> Tensor:
    """Return the sum of the pixels of each mask (R, H, W) whose centers lie in its box, (R,), as matrix products.

    Sums of ones are exact below 2**24 pixels.
    """
    rows, columns = (torch.arange(n, device=boxes.device) + 0.5 for n in masks.shape[1:])
    x0, y0, x1, y1 = boxes[:, :, None].unbind(1)
    in_rows, in_columns = (rows >= y0) & (rows < y1), (columns >= x0) & (columns < x1)
    with torch.autocast(boxes.device.type, enabled=False):
        return (in_rows[:, None].float() @ masks @ in_columns[:, :, None].float())[:, 0, 0]


@torch.no_grad()
def mask_iou_targets(mask_logits: Tensor, targets: MaskTargets) -> Tensor:
    """Return the IoU of each predicted mask with the whole object, (R,) float32 in 0..1.

    The part of the object outside the RoI counts as missed: the object has the target's cells over the crop ratio.

    Args:
        mask_logits: (R, side, side), of each RoI's class; foreground is above 0.
        targets: Targets of the same RoIs.

    Source: Mask Scoring R-CNN, section 3.3, as in CenterMask's code.
    Differs: float32, not float64; relative effect about 1e-7.
    """
    predicted = mask_logits > 0
    intersection = (predicted & targets.masks).flatten(1).sum(1)
    whole = targets.masks.flatten(1).sum(1) / targets.crop_ratios
    union = (predicted.flatten(1).sum(1) + whole - intersection).clamp(min=1)
    return intersection / union
