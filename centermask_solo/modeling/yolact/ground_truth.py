"""From the ``Instances`` of a training batch to the tensors that YOLACT's targets are computed from."""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

import torch
from detectron2.structures import Instances
from torch import Tensor

from ...ops.masks import reduce_masks
from ...utils.errors import DataError
from ..ground_truth import mask_chunks, rows_on
from .decode import frame_of
from .matching import Objects


class GroundTruth(NamedTuple):
    """The ground truth of a batch of N images.

    Attributes:
        objects: Objects and crowds of each image, in fractions of the input.
        masks: (M, h, w) bool, of all objects image by image, without crowds, at the size of the prototypes.
        sem_seg_masks: (M, Hi, Wi) bool, the same at the size of the semantic segmentation.
    """

    objects: list[Objects]
    masks: Tensor
    sem_seg_masks: Tensor


def convert_ground_truth(
    gt_instances: list[Instances],
    input_size: tuple[int, int],
    proto_size: tuple[int, int],
    sem_seg_size: tuple[int, int],
    device: torch.device,
) -> GroundTruth:
    """Return the ground truth of a batch on ``device``.

    Args:
        gt_instances: N ``Instances`` in the frame of the input image, of any size, with ``gt_boxes``, ``gt_classes``,
            optionally ``gt_is_crowd`` ((M,) bool; by default nothing is a crowd), and either ``gt_masks``
            (``BitMasks``, ``PolygonMasks`` or a bool tensor (M, h, w)) or, reduced beforehand by ``reduce_masks``,
            ``gt_prototype_masks`` and ``gt_sem_seg_masks`` (bool tensors, (M, *proto_size) and (M, *sem_seg_size)).
        input_size: (T_h, T_w) of the network input.
        proto_size: Height and width of the prototypes.
        sem_seg_size: Height and width of the semantic segmentation.
        device: Device of the result.

    Raises:
        DataError: Masks are missing or were reduced to other sizes.
    """
    objects, masks, sem_seg_masks = [], [], []
    for x, is_crowd in zip(gt_instances, _crowd_flags(gt_instances), strict=True):
        boxes = x.gt_boxes.tensor.to(device, non_blocking=True).float()
        boxes = boxes / frame_of(x.image_size, boxes)
        classes = x.gt_classes.to(device, torch.int64, non_blocking=True)
        kept = [i for i, flag in enumerate(is_crowd) if not flag]
        crowds = [i for i, flag in enumerate(is_crowd) if flag]
        rows = rows_on(device, kept)
        objects.append(Objects(boxes[rows], classes[rows], boxes[rows_on(device, crowds)]))
        small, smallest = _reduced_masks(x, kept, input_size, proto_size, sem_seg_size, device)
        masks.append(small)
        sem_seg_masks.append(smallest)
    return GroundTruth(objects, torch.cat(masks), torch.cat(sem_seg_masks))


def _crowd_flags(gt_instances: list[Instances]) -> list[list[bool]]:
    """Return which instances of each image are crowds, from one read, which on a GPU waits."""
    numbers = [len(x) for x in gt_instances]
    if not any(x.has("gt_is_crowd") for x in gt_instances):
        return [[False] * n for n in numbers]
    flags = [x.gt_is_crowd if x.has("gt_is_crowd") else torch.zeros_like(x.gt_classes) for x in gt_instances]
    on_host: list[bool] = torch.cat([x.bool() for x in flags]).tolist()
    ends = list(accumulate(numbers))
    return [on_host[end - n : end] for n, end in zip(numbers, ends, strict=True)]


def _reduced_masks(
    instances: Instances,
    kept: list[int],
    input_size: tuple[int, int],
    proto_size: tuple[int, int],
    sem_seg_size: tuple[int, int],
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Return the masks of the rows ``kept`` of one image at both sizes, on ``device``."""
    sizes = (proto_size, sem_seg_size)
    small, smallest = (torch.zeros(len(kept), *size, dtype=torch.bool, device=device) for size in sizes)
    if len(kept) and instances.has("gt_prototype_masks") and instances.has("gt_sem_seg_masks"):
        given = (instances.gt_prototype_masks, instances.gt_sem_seg_masks)
        found = tuple(tuple(x.shape[1:]) for x in given)
        if found != sizes:
            raise DataError(f"gt_prototype_masks and gt_sem_seg_masks have sizes {found}, but the model needs {sizes}")
        small, smallest = (x.to(device, non_blocking=True)[rows_on(device, kept)].bool() for x in given)
        return small, smallest
    start = 0
    for chunk in mask_chunks(instances, kept, instances.gt_boxes.device):  # where they are
        on_device = chunk.to(device, non_blocking=True)  # which is not waited for
        full = reduce_masks(on_device, input_size)  # a no-op if the loader has resized the image
        rows = slice(start, start + len(full))
        small[rows], smallest[rows] = reduce_masks(full, proto_size), reduce_masks(full, sem_seg_size)
        start += len(full)
    return small, smallest
