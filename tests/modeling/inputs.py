"""Inputs for models of every system."""

from __future__ import annotations

import torch
from detectron2.structures import BitMasks, Boxes, Instances


def instances_of(masks: torch.Tensor, classes: list[int]) -> Instances:
    """Ground truth with masks (M, h, w) bool and tight boxes, as from Detectron2's mapper."""
    instances = Instances(tuple(masks.shape[-2:]))
    instances.gt_masks = BitMasks(masks)
    instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
    instances.gt_classes = torch.tensor(classes, dtype=torch.int64)
    return instances


def empty_instances(height: int, width: int) -> Instances:
    """Ground truth of an image without annotations: Detectron2's mapper leaves ``gt_masks`` out."""
    return Instances((height, width), gt_boxes=Boxes(torch.zeros(0, 4)), gt_classes=torch.zeros(0, dtype=torch.int64))


def rectangles(height: int, width: int, *corners: tuple[int, int, int, int]) -> torch.Tensor:
    """Masks (M, height, width) of rectangles given as y0, x0, y1, x1."""
    masks = torch.zeros(len(corners), height, width, dtype=torch.bool)
    for mask, (y0, x0, y1, x1) in zip(masks, corners, strict=True):
        mask[y0:y1, x0:x1] = True
    return masks


def input_of(instances: Instances, seed: int = 0) -> dict[str, object]:
    """A training input: noise, and each object in a color of its class. Its labels are 0 in objects, otherwise 1."""
    height, width = instances.image_size
    labels = torch.ones(height, width, dtype=torch.int64)
    image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed)) * 60 + 90
    if instances.has("gt_masks"):
        for mask, k in zip(instances.gt_masks.tensor, instances.gt_classes.tolist(), strict=True):
            image[k % 3, mask] = 250
            labels[mask] = 0
    return {"image": image, "instances": instances, "sem_seg": labels, "height": height, "width": width}
