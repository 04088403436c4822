"""From the ``Instances`` of a training batch to the tensors that SOLO's targets are computed from."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import torch
from detectron2.structures import Instances
from torch import Tensor

from ..ground_truth import mask_chunks, to_device
from ..solov2.ground_truth import areas_and_moments
from ..solov2.targets import levels_of_boxes


class GroundTruth(NamedTuple):
    """The ground truth of a batch of N images with M instances.

    Attributes:
        boxes: N x (M, 4) float, x0 y0 x1 y1 in input pixels.
        classes: N x (M,) int64.
        areas: (M,) int64, number of set pixels of each mask.
        moments: (M, 2) int64, sums of the x and y indices of the set pixels; the center of mass times the area.
        masks: L x (M', h, w) bool, reduced to the size of the level's mask maps; levels of one stride share theirs.
        rows: (L, M) int64, row of ``masks`` of each instance of a level; meaningless for others.
    """

    boxes: list[Tensor]
    classes: list[Tensor]
    areas: Tensor
    moments: Tensor
    masks: list[Tensor]
    rows: Tensor


def convert_ground_truth(
    gt_instances: list[Instances],
    map_sizes: Sequence[tuple[int, int]],
    mask_strides: Sequence[int],
    scale_ranges: Sequence[tuple[float, float]],
    device: torch.device,
) -> GroundTruth:
    """Return the ground truth of a batch on ``device``.

    Each mask is reduced once per stride of the levels that its box belongs to.

    Args:
        gt_instances: N ``Instances`` in the frame of the unpadded input, with ``gt_boxes``, ``gt_classes`` and
            ``gt_masks`` (``BitMasks``, ``PolygonMasks`` or a bool tensor (M, h, w)).
        map_sizes: Height and width of each level's mask maps.
        mask_strides: Input pixels per pixel of these.
        scale_ranges: Smallest and largest sqrt(box area) of each level in input pixels, both inclusive.
        device: Device of the result.

    Raises:
        DataError: Masks are missing.
    """
    boxes = [x.gt_boxes.tensor for x in gt_instances]
    on_level = levels_of_boxes(torch.cat(boxes).cpu(), scale_ranges)  # on the host, where chunks are cut
    total = len(on_level)
    areas = torch.zeros(total, dtype=torch.int64, device=device)
    moments = torch.zeros(total, 2, dtype=torch.int64, device=device)

    # One stack of reduced masks per stride, of the instances that need it.
    sizes = dict(zip(mask_strides, map_sizes, strict=True))
    strides = torch.tensor(mask_strides)
    needed = {s: on_level[:, strides == s].any(dim=1) for s in sizes}
    indices = {s: x.nonzero().flatten() for s, x in needed.items()}
    stacks = {s: torch.zeros(len(indices[s]), *sizes[s], dtype=torch.bool, device=device) for s in sizes}

    start = 0
    for masks in chain.from_iterable(mask_chunks(x, range(len(x)), device) for x in gt_instances):
        stop = start + len(masks)
        areas[start:stop], moments[start:stop] = areas_and_moments(masks)
        for stride, index in indices.items():
            first, last = torch.searchsorted(index, torch.tensor([start, stop])).tolist()
            chosen = masks[to_device(index[first:last] - start, device)]
            stacks[stride][first:last] = reduce_by(chosen, stride, sizes[stride])
        start = stop
    return GroundTruth(
        boxes=[to_device(x, device) for x in boxes],
        classes=[to_device(x.gt_classes, device, torch.int64) for x in gt_instances],
        areas=areas,
        moments=moments,
        masks=[stacks[s] for s in mask_strides],
        rows=to_device(torch.stack([needed[s].cumsum(0) - 1 for s in mask_strides]), device),
    )


def reduce_by(masks: Tensor, ratio: int, size: tuple[int, int]) -> Tensor:
    """Return masks reduced by exactly ``ratio``, (M, *size) bool, at the top left of maps of zeros.

    A pixel is set if at least two of the four central pixels of its block of ``ratio`` x ``ratio`` are; pixels beyond
    the mask count as not set. Objects between the centers of the blocks vanish.

    Args:
        masks: (M, h, w) bool.
        ratio: An even number.
        size: Height and width of the result.

    Source: the published training code, which pads masks with the image and then resizes their bytes by OpenCV's
        bilinear interpolation.
    """
    pixels = masks.view(torch.uint8)
    counts = torch.zeros(len(masks), *size, dtype=torch.uint8, device=masks.device)
    centers = (ratio // 2 - 1, ratio // 2)
    for y in centers:
        for x in centers:
            sampled = pixels[:, y::ratio, x::ratio][:, : size[0], : size[1]]
            counts[:, : sampled.shape[1], : sampled.shape[2]] += sampled
    return counts >= 2
