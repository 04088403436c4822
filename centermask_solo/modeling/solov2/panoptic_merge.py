"""The merging of Panoptic FPN in fixed shapes: on a GPU, of slots that may hold an instance, without a host read."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..slots import Slots


class MergeOptions(NamedTuple):
    """When a segment is left out.

    Attributes:
        overlap_thresh: Share of an instance under better ones above which it is dropped.
        stuff_area_thresh: Pixels below which a class of stuff is dropped.
        score_thresh: Minimum score of an instance, inclusive.
    """

    overlap_thresh: float
    stuff_area_thresh: int
    score_thresh: float


class Merged(NamedTuple):
    """A panoptic result whose segments the host does not know yet.

    Attributes:
        segmentation: (H, W) int32, the id of each pixel's segment, or 0.
        numbers: (4 * K + 2 * C,) int64, what :func:`segments_of` makes the segments of, for K slots and C classes.
    """

    segmentation: Tensor
    numbers: Tensor


@torch.no_grad()
def merge_slots(slots: Slots, labels: Tensor, num_classes: int, options: MergeOptions) -> Merged:
    """Return what Detectron2's ``combine_semantic_and_instance_outputs`` does of the instances that are kept.

    Args:
        slots: K slots, best first, with ``pred_masks`` (K, H, W) bool.
        labels: (H, W) int64, the class of each pixel: 0 for things, then stuff.
        num_classes: Number C of these classes.
        options: When a segment is left out.
    """
    segmentation, ids = _place_things(slots, options)
    free = segmentation == 0
    present, areas = [], []
    for label in range(1, num_classes):
        pixels = labels == label
        present.append(pixels.any())
        areas.append((pixels & free).sum())
    zero = torch.zeros(1, dtype=torch.int64, device=labels.device)  # of class 0
    stuff_areas = torch.cat([zero, torch.stack(areas)]) if areas else zero
    is_present = torch.cat([zero > 0, torch.stack(present)]) if present else zero > 0
    is_segment = is_present & (stuff_areas >= options.stuff_area_thresh)
    stuff_ids = torch.where(is_segment, ids.amax() + is_segment.cumsum(0), 0)
    segmentation = torch.where(free, stuff_ids.to(torch.int32)[labels], segmentation)

    instances = slots.instances
    places = slots.kept.cumsum(0) - 1  # of the slots among the instances that stay
    scores = instances.scores.float().view(torch.int32)  # the same bits
    numbers = [ids, instances.pred_classes, places, scores, stuff_ids, stuff_areas]
    return Merged(segmentation, torch.cat([x.long() for x in numbers]))


def _place_things(slots: Slots, options: MergeOptions) -> tuple[Tensor, Tensor]:
    """Return the map of the instances' ids, (H, W) int32, and the id of each slot, (K,) int64; 0 for none."""
    masks, scores = slots.instances.pred_masks, slots.instances.scores
    areas = masks.sum(dim=(1, 2))
    # In double precision, as Python compares these numbers.
    is_candidate = slots.kept & (scores.double() >= options.score_thresh) & (areas > 0)
    segmentation = torch.zeros(masks.shape[1:], dtype=torch.int32, device=masks.device)
    count = torch.zeros((), dtype=torch.int32, device=masks.device)
    ids = []
    for mask, area, candidate in zip(masks, areas, is_candidate, strict=True):
        free = segmentation == 0
        overlap = (mask & ~free).sum().double() / area
        is_segment = candidate & ~(overlap > options.overlap_thresh)
        count = count + is_segment
        segmentation = torch.where(mask & free & is_segment, count, segmentation)
        ids.append(torch.where(is_segment, count, 0))
    return segmentation, torch.stack(ids).long()


def segments_of(numbers: list[int], num_slots: int) -> list[dict[str, Any]]:
    """Return Detectron2's ``segments_info`` from the numbers of :class:`Merged`, on the host.

    Args:
        numbers: Those of one image.
        num_slots: Number K of slots.
    """
    values = np.array(numbers, dtype=np.int64)
    ids, classes, places, scores = values[: 4 * num_slots].reshape(4, num_slots)
    stuff_ids, areas = values[4 * num_slots :].reshape(2, -1)
    things = [
        {
            "id": int(ids[i]),
            "isthing": True,
            "score": float(scores[i : i + 1].astype(np.int32).view(np.float32)[0]),
            "category_id": int(classes[i]),
            "instance_id": int(places[i]),
        }
        for i in np.flatnonzero(ids)
    ]
    stuff = [
        {"id": int(stuff_ids[i]), "isthing": False, "category_id": int(i), "area": int(areas[i])}
        for i in np.flatnonzero(stuff_ids)
    ]
    return things + stuff
