"""Which detection finds which object, as in COCO's evaluation, for all images, classes and thresholds at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .objects import Annotated, Bools, Detected, Floats, Ints
from .overlaps import Pairs

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of the IoU of a match, as COCO's evaluation has them


class Matches(NamedTuple):
    """Matches in A groups of objects at T thresholds.

    Attributes:
        det: (C,) index of each detection that overlaps an object of its class enough for the lowest threshold, sorted.
        gt: (A, T, C) index of the object that it finds; -1 for none.
    """

    det: Ints
    gt: Ints


def rank_in_cells(images: Ints, classes: Ints, scores: Floats) -> Ints:
    """Return (D,) the place of each detection, from 0, among those of its image and class, by descending score."""
    order = np.lexsort((-scores, classes, images))  # stable: the first of equals in the file comes first
    cells = np.stack([images, classes])[:, order]
    starts = np.flatnonzero(np.concatenate([[True], (cells[:, 1:] != cells[:, :-1]).any(axis=0)]))
    starts = starts if len(order) else np.zeros(0, np.int64)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order)) - np.repeat(starts, np.diff([*starts, len(order)]))
    return rank


def same_class(pairs: Pairs, annotated: Annotated, detected: Detected) -> Pairs:
    """Return the pairs of the same class."""
    return pairs.chosen(annotated.classes[pairs.gt] == detected.classes[pairs.det])


def match(pairs: Pairs, detected: Detected, rank: Ints, crowds: Bools, ignored: Bools) -> Matches:
    """Return the matches at ``THRESHOLDS``.

    In the order of their scores, each detection of an image and class finds the object with the highest IoU, at least
    the threshold, that none before has found; one that is not ignored, if there is any. Any number may find a crowd. Of
    equal IoUs the last object wins, as in COCO's evaluation.

    Args:
        pairs: Of the same class, of detections that count.
        detected: All detections.
        rank: From :func:`rank_in_cells`.
        crowds: (G,) whether each object is a crowd.
        ignored: (A, G) whether each object is ignored, in each of A groups.
    """
    pairs = pairs.chosen(pairs.iou >= THRESHOLDS[0])
    order = np.lexsort((pairs.gt, pairs.iou, pairs.det))
    pairs = Pairs(pairs.det[order], pairs.gt[order], pairs.iou[order])
    det, starts, sizes = np.unique(pairs.det, return_index=True, return_counts=True)
    found = np.full((len(ignored), len(THRESHOLDS), len(det)), -1, dtype=np.int64)
    taken = np.zeros((len(ignored), len(THRESHOLDS), len(crowds)), dtype=np.bool_)
    # Each round has one detection of each image and class: the next one by score
    turns = rank_in_cells(detected.images[det], detected.classes[det], -rank[det].astype(np.float64))
    for turn in range(int(turns.max(initial=-1)) + 1):
        rows = np.flatnonzero(turns == turn)
        first = np.cumsum(sizes[rows]) - sizes[rows]
        index = np.arange(sizes[rows].sum()) + np.repeat(starts[rows] - first, sizes[rows])
        gt = pairs.gt[index]
        free = (pairs.iou[index] >= THRESHOLDS[:, None])[None] & (crowds[gt] | ~taken[:, :, gt])
        place = np.arange(1, len(index) + 1)
        regular, other = (
            np.maximum.reduceat(np.where(free & x[:, None], place, 0), first, axis=-1)
            for x in (~ignored[:, gt], ignored[:, gt])
        )
        chosen = np.where(regular > 0, regular, other)
        found[:, :, rows] = np.where(chosen > 0, gt[chosen - 1], -1)
        group, threshold, _ = places = np.nonzero(chosen)
        taken[group, threshold, gt[chosen[places] - 1]] = True
    return Matches(det, found)
