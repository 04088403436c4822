"""From the Instances of a training batch to the boxes, classes and reduced masks that the targets are made of."""

from __future__ import annotations

from typing import NamedTuple

import torch
from detectron2.structures import Instances
from torch import Tensor

from ...ops.masks import reduce_masks
from ..ground_truth import mask_chunks
from .decode import frame_of
from .targets import Objects


class GroundTruth(NamedTuple):
    """The truth of a batch.

    Attributes:
        objects: N; boxes and classes without crowds, and the crowds' boxes, in fractions of the input.
        masks: (M, h, w) bool, of all objects, without crowds, image by image, at the prototypes' size.
        sem_seg_masks: (M, Hi, Wi) bool, the same at the size of the semantic segmentation.
    """

    objects: list[Objects]
    masks: Tensor
    sem_seg_masks: Tensor


def ground_truth_of(
    gt_instances: list[Instances],
    input_size: tuple[int, int],
    proto_size: tuple[int, int],
    sem_seg_size: tuple[int, int],
    device: torch.device,
) -> GroundTruth:
    """The truth of a batch, on ``device``.

    Args:
        gt_instances: N ``Instances`` in the frame of the input image, of any size, with ``gt_boxes``, ``gt_classes``,
            maybe ``gt_is_crowd`` ((M,) bool; without it nothing is a crowd), and either ``gt_masks`` (``BitMasks``,
            ``PolygonMasks`` or a bool tensor (M, h, w)) or, made by ``reduce_masks`` beforehand,
            ``gt_prototype_masks`` and ``gt_sem_seg_masks`` (bool tensors, (M, *proto_size) and (M, *sem_seg_size)).
        input_size: (T_h, T_w) of the network.
        proto_size: height and width of the prototypes.
        sem_seg_size: height and width of the semantic segmentation.
        device: of the result.

    Raises:
        ValueError: masks are missing, or were reduced to other sizes.
    """
    objects, masks, sem_seg_masks = [], [], []
    for x in gt_instances:
        boxes = x.gt_boxes.tensor.to(device).float()
        boxes = boxes / frame_of(x.image_size, boxes)
        classes = x.gt_classes.to(device, torch.int64)
        crowd = x.gt_is_crowd.to(device).bool() if x.has("gt_is_crowd") else torch.zeros_like(classes).bool()
        objects.append(Objects(boxes[~crowd], classes[~crowd], boxes[crowd]))
        kept = (~crowd).nonzero()[:, 0]
        small, smallest = _reduced_masks(x, kept, input_size, proto_size, sem_seg_size)
        masks.append(small)
        sem_seg_masks.append(smallest)
    return GroundTruth(objects, torch.cat(masks), torch.cat(sem_seg_masks))


def _reduced_masks(
    instances: Instances,
    kept: Tensor,
    input_size: tuple[int, int],
    proto_size: tuple[int, int],
    sem_seg_size: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """The masks of the rows ``kept`` of one image at both sizes, on the device of ``kept``."""
    sizes = (proto_size, sem_seg_size)
    small, smallest = (torch.zeros(len(kept), *size, dtype=torch.bool, device=kept.device) for size in sizes)
    if len(kept) and instances.has("gt_prototype_masks") and instances.has("gt_sem_seg_masks"):
        given = (instances.gt_prototype_masks, instances.gt_sem_seg_masks)
        found = tuple(tuple(x.shape[1:]) for x in given)
        if found != sizes:
            raise ValueError(
                f"gt_prototype_masks and gt_sem_seg_masks have sizes {found}, but the model needs {sizes}."
            )
        small, smallest = (x.to(kept.device)[kept].bool() for x in given)
        return small, smallest
    start = 0
    for chunk in mask_chunks(instances, kept):
        full = reduce_masks(chunk, input_size)  # another size only where the loader left it to us
        rows = slice(start, start + len(full))
        small[rows], smallest[rows] = reduce_masks(full, proto_size), reduce_masks(full, sem_seg_size)
        start += len(full)
    return small, smallest
