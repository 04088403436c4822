"""CenterMask's mask targets, one RoI after another with Detectron2 and pycocotools. For tests only."""

from __future__ import annotations

import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2.structures.masks import polygon_area, rasterize_polygons_within_box


def polygon_mask_targets(polygons, boxes, index, side):
    """The masks (R, side, side) and crop ratios (R,) of RoIs of objects that are given by polygons."""
    masks, ratios = [], []
    for i, box in zip(index, boxes.float().numpy(), strict=True):
        masks.append(rasterize_polygons_within_box(polygons[i], box, side))
        area = sum(polygon_area(p[0::2], p[1::2]) for p in polygons[i])
        ratios.append(_pixels_within(polygons[i], box) / max(area, 1e-10))
    return torch.stack(masks), torch.tensor(ratios).float().clamp(1e-10, 1.0)


def _pixels_within(polygons, box):
    width, height = int(box[2] - box[0]), int(box[3] - box[1])
    if width < 1 or height < 1 or not polygons:
        return 0
    shifted = [(p.reshape(-1, 2) - box[:2].astype(np.float64)).reshape(-1) for p in polygons]
    return int(mask_util.area(mask_util.frPyObjects(shifted, height, width)).sum())
