"""Sampling of the proposals that train masks and keypoints, on the host, and the masks that they train on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from torch import Tensor

from ...utils.errors import DataError


def sample_rois(
    boxes: Tensor,
    index: Sequence[int],
    classes: Sequence[int],
    image_size: tuple[int, int],
    num_classes: int,
    batch_size: int,
    positive_fraction: float,
) -> tuple[Instances, int]:
    """Return the positives of an image that are sampled, and the number of negatives, without a read on the host.

    Args:
        boxes: (R, 4) float, proposals.
        index: R; the object of each proposal.
        classes: R; its class, K for background, -1 for what is neither.
        image_size: (height, width) of the image.
        num_classes: K.
        batch_size: Number of samples, at most.
        positive_fraction: Share of positives among them, at most.

    Returns:
        ``proposal_boxes``, ``gt_classes`` and, on the host, ``gt_index``; and the number.

    Source: Detectron2's ``subsample_labels``, with the random numbers that it draws on a CPU. It reads labels of a GPU.
    """
    positive = [row for row, k in enumerate(classes) if 0 <= k < num_classes]
    num_negative = list(classes).count(num_classes)
    chosen = torch.randperm(len(positive))[: int(batch_size * positive_fraction)]
    torch.randperm(num_negative)  # which negatives is of no use, but later random numbers depend on the draw
    of_positives = torch.tensor([(row, classes[row], index[row]) for row in positive], dtype=torch.int64).view(-1, 3)
    rows, gt_classes, gt_index = of_positives[chosen].unbind(1)
    rows, gt_classes = (x.to(boxes.device, non_blocking=True) for x in (rows, gt_classes))
    rois = Instances(image_size, proposal_boxes=Boxes(boxes[rows]), gt_classes=gt_classes, gt_index=gt_index)
    return rois, min(num_negative, batch_size - len(chosen))


def masks_of(gt_instances: Instances) -> PolygonMasks | BitMasks:
    """Return the ground-truth masks of an image; raise DataError if there are none."""
    if not gt_instances.has("gt_masks"):
        raise DataError("the instances have no gt_masks: train with data that has masks, or MODEL.MASK_ON False")
    return gt_instances.gt_masks
