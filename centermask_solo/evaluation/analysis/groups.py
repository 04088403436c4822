"""Groups of objects whose average precision is of interest: by size and by crowding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pycocotools import mask as rle

from .objects import Annotated, Bools, Detected, Floats, Ints, Objects

_Ranges = dict[str, tuple[float, float]]
AREAS: _Ranges = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}  # pixels, of COCO, inclusive
NEIGHBORS: _Ranges = {"0 neighbors": (0, 0), "1 to 3 neighbors": (1, 3), "4 and more neighbors": (4, math.inf)}
OVERLAPS: _Ranges = {
    "overlap 0 to 0.1": (0, 0.1),
    "overlap 0.1 to 0.3": (0.1, 0.3),
    "overlap above 0.3": (0.3, 1.01),
}


class Group(NamedTuple):
    """A group of objects; detections that find none of them count only if they are in the group, too.

    Attributes:
        name: Its name.
        objects: (G,) which objects are in it.
        detections: (D,) which detections are.
    """

    name: str
    objects: Bools
    detections: Bools


class Crowding(NamedTuple):
    """How crowded the place of each object is, by boxes.

    Attributes:
        neighbors: (N,) how many other annotated objects its box overlaps.
        overlap: (N,) the highest IoU of its box with that of another annotated object.
    """

    neighbors: Ints
    overlap: Floats


def make_groups(annotated: Annotated, detected: Detected) -> list[Group]:
    """Return the group of all objects, those by size, by the number of neighbors, and by overlap.

    A detection's own object is taken to be the one whose box overlaps its box most; the others are its neighbors.
    """
    both: Sequence[Objects] = (annotated, detected)
    groups = [Group("all", *(np.ones(len(x), dtype=np.bool_) for x in both))]
    for name, (low, high) in AREAS.items():
        groups.append(Group(name, *((x.areas >= low) & (x.areas <= high) for x in both)))
    crowding = [find_crowding(x, annotated) for x in both]
    for name, (low, high) in NEIGHBORS.items():
        groups.append(Group(name, *((x.neighbors >= low) & (x.neighbors <= high) for x in crowding)))
    for name, (low, high) in OVERLAPS.items():
        groups.append(Group(name, *((x.overlap >= low) & (x.overlap < high) for x in crowding)))
    return groups


def find_crowding(objects: Objects, annotated: Annotated) -> Crowding:
    """Return how crowded the places of annotated objects or of detections are; crowds do not count as neighbors."""
    single = ~annotated.crowds
    boxes, images = annotated.boxes[single], annotated.images[single]
    num_images = len(annotated.records)
    starts, gt_starts = objects.starts(num_images), np.searchsorted(images, np.arange(num_images + 1))
    neighbors, overlap = np.zeros(len(objects), dtype=np.int64), np.zeros(len(objects))
    for image in np.unique(objects.images).tolist():
        ours, theirs = slice(starts[image], starts[image + 1]), slice(gt_starts[image], gt_starts[image + 1])
        if theirs.stop - theirs.start < 2:
            continue
        # Without the largest IoU, which is that of the object itself
        iou = np.sort(rle.iou(objects.boxes[ours], boxes[theirs], [False] * (theirs.stop - theirs.start)), axis=1)
        neighbors[ours] = np.count_nonzero(iou[:, :-1], axis=1)
        overlap[ours] = iou[:, -2]
    return Crowding(neighbors, overlap)
