"""Training targets of RoI masks and of their predicted IoU."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2.structures import BitMasks, PolygonMasks
from detectron2.structures.masks import polygon_area, rasterize_polygons_within_box
from torch import Tensor
from torchvision.ops import roi_align

from ...ops.chunks import rows_per_chunk

_MIN_CROP_RATIO = 1e-10


class MaskTargets(NamedTuple):
    """The targets of R RoIs."""

    masks: Tensor  # (R, side, side) bool, the object within the RoI
    crop_ratios: Tensor  # (R,) float32, share of the object's area that lies in the RoI, 1e-10..1


def mask_targets(gt_masks: PolygonMasks | BitMasks | None, boxes: Tensor, index: Tensor, side: int) -> MaskTargets:
    """Return the targets of the RoIs of one image.

    Args:
        gt_masks: Masks of the image's objects in input pixels; None is enough without RoIs.
        boxes: (R, 4) float, RoIs in input pixels, not clipped.
        index: (R,) int64, the object of each RoI.
        side: Cells per side of the mask targets.
    """
    if len(boxes) == 0:
        return MaskTargets(torch.zeros((0, side, side), dtype=torch.bool, device=boxes.device), boxes.new_zeros(0))
    if isinstance(gt_masks, PolygonMasks):
        return polygon_mask_targets(gt_masks.polygons, boxes, index, side)
    if isinstance(gt_masks, BitMasks):
        return bitmask_mask_targets(gt_masks.tensor, boxes, index, side)
    raise ValueError(f"gt_masks must be PolygonMasks or BitMasks, not {type(gt_masks).__name__}")


@torch.no_grad()
def polygon_mask_targets(polygons: list[list[np.ndarray]], boxes: Tensor, index: Tensor, side: int) -> MaskTargets:
    """Return the targets of the RoIs of one image from polygons; computed on the CPU, where polygons live.

    Args:
        polygons: For each object its polygons, each x, y, x, y, ... in input pixels.
        boxes: As in :func:`mask_targets`.
        index: As in :func:`mask_targets`.
        side: As in :func:`mask_targets`.

    Source: masks as in Detectron2. Crop ratio as in the authors' code: the pixels of the object on the RoI's canvas,
        whose size is truncated to integers, summed over the polygons, over the sum of the polygons' areas.
    Differs: the area is computed once per object, not once per RoI; pixels are counted without drawing them.
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
    """Return the number of pixels that the polygons cover within ``box``, summed over the polygons."""
    width, height = int(box[2] - box[0]), int(box[3] - box[1])
    if width < 1 or height < 1:
        return 0
    corner = box[:2].astype(np.float64)
    shifted = [(p.reshape(-1, 2) - corner).reshape(-1) for p in polygons]
    return int(mask_util.area(mask_util.frPyObjects(shifted, height, width)).sum())


@torch.no_grad()
def bitmask_mask_targets(masks: Tensor, boxes: Tensor, index: Tensor, side: int) -> MaskTargets:
    """Return the targets of the RoIs of one image from bitmasks, on the device of the RoIs, a few objects at a time.

    Args:
        masks: (M, H, W) bool, the objects in input pixels.
        boxes: As in :func:`mask_targets`.
        index: As in :func:`mask_targets`.
        side: As in :func:`mask_targets`.

    Source: masks as ``BitMasks.crop_and_resize`` of Detectron2. Crop ratio: the object's pixels whose centers lie in
        the RoI, over all its pixels.
    """
    crops = torch.zeros((len(boxes), side, side), dtype=torch.bool, device=boxes.device)
    ratios = torch.full((len(boxes),), _MIN_CROP_RATIO, device=boxes.device)
    step = rows_per_chunk(4 * masks.shape[1] * masks.shape[2])
    objects, place = index.unique(return_inverse=True)  # most objects of a crowded image have no RoI
    for start in range(0, len(objects), step):
        chunk = masks[objects[start : start + step].to(masks.device)].to(boxes.device).float()
        total = chunk.sum(dim=(1, 2))
        found = ((place >= start) & (place < start + step)).nonzero()[:, 0]
        for rows in found.split(step):
            own_boxes, own_index = boxes[rows].float(), place[rows] - start
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
