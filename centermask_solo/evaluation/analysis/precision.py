"""Precision and recall by class, as COCO's evaluation accumulates them, and average precision."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .matching import THRESHOLDS, Matches
from .objects import Bools, Floats, Ints

RECALLS = np.linspace(0, 1, 101)  # at which precision is interpolated, as in COCO's evaluation


class Outcomes(NamedTuple):
    """What became of each detection in one group of objects.

    Attributes:
        found: (T, D) whether it found an object.
        ignored: (T, D) whether it counts as nothing.
    """

    found: Bools
    ignored: Bools


class Curves(NamedTuple):
    """Curves of K classes at T thresholds; nan for a class without objects.

    Attributes:
        precision: (T, R, K) the best precision at each of ``RECALLS`` or beyond.
        recall: (T, K) that of all detections.
        scores: (T, R, K) the score from which on detections must be taken for that recall; 0 if it is not reached.
    """

    precision: Floats
    recall: Floats
    scores: Floats

    def ap(self, threshold: int | None = None) -> float:
        """Return the average precision of all classes that have objects, in percent; nan if none has.

        Args:
            threshold: Index of the IoU threshold; None for the mean of all.
        """
        precision = self.precision if threshold is None else self.precision[threshold]
        return percent(precision[~np.isnan(precision)])

    def ap_by_class(self, threshold: int | None = None) -> Floats:
        """Return (K,) the average precision of each class in percent; nan for those without objects."""
        precision = self.precision if threshold is None else self.precision[threshold : threshold + 1]
        return 100 * precision.mean(axis=(0, 1))


def percent(values: Floats) -> float:
    """Return the mean of fractions in percent; nan of none."""
    return 100 * float(np.mean(values)) if len(values) else float("nan")


def outcomes(matches: Matches, group: int, num_detections: int, ignored: Bools, outside: Bools) -> Outcomes:
    """Return what became of all detections in a group.

    Args:
        matches: Of all groups.
        group: Index of the group.
        num_detections: D.
        ignored: (G,) objects that are ignored in the group.
        outside: (D,) detections that count as nothing unless they find an object.
    """
    num_thresholds = matches.gt.shape[1]
    found = np.zeros((num_thresholds, num_detections), dtype=np.bool_)
    nothing = np.repeat(outside[None], num_thresholds, axis=0)
    gt = matches.gt[group]
    if len(ignored):
        found[:, matches.det] = (gt >= 0) & ~ignored[gt]
        nothing[:, matches.det] = np.where(gt >= 0, ignored[gt], outside[matches.det])
    return Outcomes(found, nothing)


def order_by_class(classes: Ints, scores: Floats) -> Ints:
    """Return the order of detections by class and descending score, equal ones as they come."""
    return np.lexsort((-scores, classes))


def accumulate(
    outcome: Outcomes, classes: Ints, scores: Floats, counted: Bools, num_objects: Ints, num_classes: int
) -> Curves:
    """Return the curves of all classes.

    Args:
        outcome: Of all detections in a group of objects, at any thresholds.
        classes: (D,) class of each detection.
        scores: (D,).
        counted: (D,) whether each detection is among those of its image and class that count.
        num_objects: (K,) objects of each class in the group.
        num_classes: K.
    """
    num_thresholds = len(outcome.found)
    precision = np.full((num_thresholds, len(RECALLS), num_classes), np.nan)
    recall, at = np.full((num_thresholds, num_classes), np.nan), np.full(precision.shape, np.nan)
    order = order_by_class(classes, scores)
    order = order[counted[order]]
    bounds = np.searchsorted(classes[order], np.arange(num_classes + 1))
    for k in np.flatnonzero(num_objects).tolist():
        rows = order[bounds[k] : bounds[k + 1]]
        curves = class_curves(outcome.found[:, rows], outcome.ignored[:, rows], scores[rows], int(num_objects[k]))
        precision[:, :, k], recall[:, k], at[:, :, k] = curves
    return Curves(precision, recall, at)


def class_curves(found: Bools, ignored: Bools, scores: Floats, num_objects: int) -> tuple[Floats, Floats, Floats]:
    """Return precision (T, R), recall (T,) and scores (T, R) of the detections (T, D) of a class, sorted by score."""
    hits = np.cumsum(found & ~ignored, axis=1, dtype=np.float64)
    misses = np.cumsum(~found & ~ignored, axis=1, dtype=np.float64)
    recalls = hits / num_objects
    envelope = hits / (hits + misses + np.spacing(1))
    envelope = np.maximum.accumulate(envelope[:, ::-1], axis=1)[:, ::-1]
    precision, at = np.zeros((2, len(found), len(RECALLS)))
    for t, row in enumerate(recalls):
        places = np.searchsorted(row, RECALLS, side="left")
        reached = int(np.count_nonzero(places < len(row)))
        precision[t, :reached] = envelope[t, places[:reached]]
        at[t, :reached] = scores[places[:reached]]
    return precision, recalls[:, -1] if recalls.shape[1] else np.zeros(len(found)), at


def threshold_index(iou: float) -> int:
    """Return the index of an IoU threshold."""
    return int(np.argmin(np.abs(THRESHOLDS - iou)))
