"""Training targets: what each FCOS location, each RoI mask and each mask IoU should be. No gradient, no Instances."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2.structures.masks import polygon_area, rasterize_polygons_within_box
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align

from ...ops.boxes import level_locations

_MAX_PAIRS = 1 << 22  # (location, box) pairs held at once: about 40 MB
_MAX_PIXELS = 1 << 24  # bitmask pixels converted at once: about 130 MB
_MIN_CROP_RATIO = 1e-10


class FCOSTargets(NamedTuple):
    """What FCOS should say at each location: levels one after the other, row by row within a level."""

    classes: Tensor  # (N, R) int64; K where no object is assigned
    ltrb: Tensor  # (N, R, 4) float32, distances to the sides of the object's box in strides; 0 where none
    centerness: Tensor  # (N, R) float32 in 0..1; 0 where none


class MaskTargets(NamedTuple):
    """What the mask branch should say about each RoI."""

    masks: Tensor  # (R, side, side) bool, the object within the RoI
    crop_ratios: Tensor  # (R,) float32, share of the object's area that lies in the RoI, 1e-10..1


def regression_ranges(sizes_of_interest: Sequence[float]) -> list[tuple[float, float]]:
    """For each level the smallest and the largest distance to a side that it regresses, both included, input pixels."""
    limits = [0.0, *sizes_of_interest, math.inf]
    return list(itertools.pairwise(limits))


@torch.no_grad()
def build_fcos_targets(
    gt_boxes: Sequence[Tensor],
    gt_classes: Sequence[Tensor],
    level_sizes: Sequence[tuple[int, int]],
    *,
    strides: Sequence[int],
    ranges: Sequence[tuple[float, float]],
    radius: float | None,
    num_classes: int,
) -> FCOSTargets:
    """The targets of all locations of a batch.

    Args:
        gt_boxes: for each image (M, 4) x0, y0, x1, y1 in input pixels.
        gt_classes: for each image (M,) int64, 0-based.
        level_sizes: (Hi, Wi) of each level of the padded batch.
        strides: of each level, input pixels.
        ranges: for each level the smallest and largest allowed maximum of the four distances, input pixels, inclusive.
        radius: of center sampling, in strides of the location's level; None: every location within the box.
        num_classes: K, the background's label.

    Source: FCOS, section 3; center sampling and ranges as in CenterMask's published models.
    Differs: among boxes of equal area the first wins, on every device.
    """
    device = gt_boxes[0].device
    locations = torch.cat([level_locations(s, t, device) for s, t in zip(level_sizes, strides, strict=True)])
    cell_strides = torch.cat(
        [torch.full((h * w, 1), float(t), device=device) for (h, w), t in zip(level_sizes, strides, strict=True)]
    )
    classes, ltrb = [], []
    for boxes, labels in zip(gt_boxes, gt_classes, strict=True):
        index = match_locations(boxes.float(), level_sizes, strides, ranges, radius)
        classes.append(torch.cat([labels, labels.new_full((1,), num_classes)])[index])
        matched = F.pad(boxes.float(), (0, 0, 0, 1))[index]  # the row of zeros is the background's
        distances = torch.cat([locations - matched[:, :2], matched[:, 2:] - locations], dim=1)
        ltrb.append(distances / cell_strides * (index < len(boxes))[:, None])
    all_ltrb = torch.stack(ltrb)
    return FCOSTargets(torch.stack(classes), all_ltrb, centerness_targets(all_ltrb))


def match_locations(
    boxes: Tensor,
    level_sizes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    ranges: Sequence[tuple[float, float]],
    radius: float | None,
) -> Tensor:
    """For each location of one image the row of its box, (R,) int64: the smallest that claims it; M where none does.

    All conditions are separable in x and y, so that only boolean (rows, Wi, M) tensors are built, a bounded number of
    rows at a time. Arguments as in :func:`build_fcos_targets`.
    """
    num_boxes = len(boxes)
    if num_boxes == 0:
        return torch.zeros(sum(h * w for h, w in level_sizes), dtype=torch.int64, device=boxes.device)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    order = areas.argsort(stable=True)  # ties keep the order of the boxes
    x0, y0, x1, y1 = boxes[order].unbind(1)
    ranks = torch.arange(num_boxes, dtype=torch.int32, device=boxes.device)
    best = []
    for (height, width), stride, limits in zip(level_sizes, strides, ranges, strict=True):
        y, x = (torch.arange(n, device=boxes.device)[:, None] * stride + stride // 2 for n in (height, width))
        reach = math.inf if radius is None else radius * stride
        x_inside, x_far = _claims_along_axis(x, x0, x1, reach, limits)
        y_inside, y_far = _claims_along_axis(y, y0, y1, reach, limits)
        step = max(1, _MAX_PAIRS // (width * num_boxes))
        for inside, far in zip(y_inside.split(step), y_far.split(step), strict=True):
            claimed = inside[:, None] & x_inside & (far[:, None] | x_far)
            best.append(torch.where(claimed, ranks, num_boxes).amin(dim=2).flatten())
    return F.pad(order, (0, 1), value=num_boxes)[torch.cat(best).long()]


def _claims_along_axis(
    position: Tensor, low: Tensor, high: Tensor, reach: float, limits: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Two (n, M) booleans along one axis: inside and no side too far; some side far enough for the level."""
    farthest = torch.maximum(position - low, high - position)
    center = (low + high) / 2
    inside = (position > torch.maximum(low, center - reach)) & (position < torch.minimum(high, center + reach))
    return inside & (farthest <= limits[1]), farthest >= limits[0]


def centerness_targets(ltrb: Tensor) -> Tensor:
    """How central a location lies in its box, (...,) in 0..1, from its distances (..., 4); 0 where they are all 0."""
    left, top, right, bottom = ltrb.unbind(-1)
    horizontal = torch.minimum(left, right) / torch.maximum(left, right)
    vertical = torch.minimum(top, bottom) / torch.maximum(top, bottom)
    return torch.nan_to_num((horizontal * vertical).sqrt())


@torch.no_grad()
def polygon_mask_targets(polygons: list[list[np.ndarray]], boxes: Tensor, index: Tensor, side: int) -> MaskTargets:
    """The targets of the RoIs of one image whose objects are polygons; computed on the CPU, where polygons live.

    Args:
        polygons: for each object its polygons, each x, y, x, y, ... in input pixels.
        boxes: (R, 4) float, RoIs in input pixels, not clipped.
        index: (R,) int64, the object of each RoI.
        side: of the mask targets, cells.

    Source: mask as in Detectron2. Crop ratio as in the authors' code: the pixels of the object on the RoI's canvas, of
        its size truncated to integers, summed over the polygons, over the sum of the polygons' areas.
    Differs: an object's area is computed once, not for each of its RoIs; pixels are counted without drawing them.
    """
    boxes_on_cpu, objects = boxes.cpu().float().numpy(), index.tolist()
    areas = {i: sum(polygon_area(p[0::2], p[1::2]) for p in polygons[i]) for i in set(objects)}
    masks = [
        rasterize_polygons_within_box(polygons[i], box, side) for i, box in zip(objects, boxes_on_cpu, strict=True)
    ]
    pixels = [_pixels_within(polygons[i], box) for i, box in zip(objects, boxes_on_cpu, strict=True)]
    ratios = torch.tensor([n / max(areas[i], _MIN_CROP_RATIO) for n, i in zip(pixels, objects, strict=True)])
    stacked = torch.stack(masks) if masks else torch.zeros((0, side, side), dtype=torch.bool)
    return MaskTargets(stacked.to(boxes.device), ratios.float().clamp(_MIN_CROP_RATIO, 1.0).to(boxes.device))


def _pixels_within(polygons: list[np.ndarray], box: np.ndarray) -> int:
    """How many pixels the polygons cover within ``box``, each polygon counted by itself."""
    width, height = int(box[2] - box[0]), int(box[3] - box[1])
    if width < 1 or height < 1:
        return 0
    corner = box[:2].astype(np.float64)
    shifted = [(p.reshape(-1, 2) - corner).reshape(-1) for p in polygons]
    return int(mask_util.area(mask_util.frPyObjects(shifted, height, width)).sum())


@torch.no_grad()
def bitmask_mask_targets(masks: Tensor, boxes: Tensor, index: Tensor, side: int) -> MaskTargets:
    """The targets of the RoIs of one image whose objects are bitmasks, on their device, a few objects at a time.

    Args:
        masks: (M, H, W) bool, the objects in input pixels.
        boxes: (R, 4) float, RoIs in input pixels, not clipped.
        index: (R,) int64, the object of each RoI.
        side: of the mask targets, cells.

    Source: mask as ``BitMasks.crop_and_resize`` of Detectron2. Crop ratio: the object's pixels whose centers lie in the
        RoI, over all its pixels; counted from a summed-area table.
    """
    crops = torch.zeros((len(boxes), side, side), dtype=torch.bool, device=boxes.device)
    ratios = torch.full((len(boxes),), _MIN_CROP_RATIO, device=boxes.device)
    step = max(1, _MAX_PIXELS // max(1, masks.shape[1] * masks.shape[2]))
    for start in range(0, len(masks), step):
        chunk = masks[start : start + step].to(boxes.device)
        rows = ((index >= start) & (index < start + step)).nonzero()[:, 0]
        own_boxes, own_index = boxes[rows].float(), index[rows] - start
        rois = torch.cat([own_index[:, None].float(), own_boxes], dim=1)
        crops[rows] = roi_align(chunk[:, None].float(), rois, side, aligned=True)[:, 0] >= 0.5
        inside, total = _pixels_inside_boxes(chunk, own_boxes, own_index)
        ratios[rows] = (inside / total.clamp(min=1)).clamp(_MIN_CROP_RATIO, 1.0)
    return MaskTargets(crops, ratios)


def _pixels_inside_boxes(masks: Tensor, boxes: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """For each box, how many pixels of its mask have their center in it, and how many the mask has: (R,) int64 each."""
    height, width = masks.shape[1:]
    table = F.pad(masks.to(torch.int32).cumsum(1).cumsum(2), (1, 0, 1, 0))
    first_x, first_y, last_x, last_y = (boxes - 0.5).ceil().long().unbind(1)  # half-open
    first_x, last_x = first_x.clamp(0, width), last_x.clamp(0, width)
    first_y, last_y = first_y.clamp(0, height), last_y.clamp(0, height)
    inside = (
        table[index, last_y, last_x]
        - table[index, first_y, last_x]
        - table[index, last_y, first_x]
        + table[index, first_y, first_x]
    )
    return inside, table[index, height, width]


@torch.no_grad()
def mask_iou_targets(mask_logits: Tensor, targets: MaskTargets) -> Tensor:
    """The IoU of each predicted mask with the whole object, (R,) float32 in 0..1.

    The part of the object outside the RoI counts as missed: its cells are the target's cells over the crop ratio.

    Args:
        mask_logits: (R, side, side) of the RoI's class; foreground is above 0.
        targets: of the same RoIs.

    Source: Mask Scoring R-CNN, section 3.3, as in CenterMask's code.
    Differs: float32, not float64; relative effect about 1e-7.
    """
    predicted = mask_logits > 0
    intersection = (predicted & targets.masks).flatten(1).sum(1)
    whole = targets.masks.flatten(1).sum(1) / targets.crop_ratios
    union = (predicted.flatten(1).sum(1) + whole - intersection).clamp(min=1)
    return intersection / union
