"""Which classes are taken for which, at one score threshold, and which threshold is best."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .evaluated import Evaluated
from .objects import Bools, Floats, Ints
from .overlaps import Pairs
from .precision import order_by_class


class Confusion(NamedTuple):
    """Objects and detections above a score threshold, assigned to each other at IoU 0.5.

    Attributes:
        matrix: (K + 1, K + 1) counts: objects of a class (rows) that were detected as a class (columns). The last
            column has missed objects, the last row detections of background.
        found: (D,) the object of each detection, of whatever class; -1 for none.
        shown: (D,) which detections are above the threshold and count.
        missed: (G,) which objects no detection is assigned to.
    """

    matrix: Ints
    found: Ints
    shown: Bools
    missed: Bools


def confuse(evaluated: Evaluated, score_threshold: float) -> Confusion:
    """Return the confusion of classes.

    First, detections find objects of their own class as for average precision. What is left of both is assigned to each
    other by descending IoU, of at least 0.5. Crowds, and what is in them, are left out.
    """
    annotated, detected = evaluated.annotated, evaluated.detected
    num_classes, outcome = len(annotated.names), evaluated.outcome()
    shown = evaluated.counted & (detected.scores >= score_threshold) & ~outcome.ignored[0]
    # Detections of lower scores never take an object from those of higher ones, so that these matches stay
    found = np.where(shown & outcome.found[0], evaluated.found_by, -1)
    missed = ~annotated.crowds
    missed[found[found >= 0]] = False
    pairs = evaluated.pairs
    left = (pairs.iou >= 0.5) & shown[pairs.det] & (found[pairs.det] < 0) & missed[pairs.gt]
    assigned = assign_by_iou(pairs.chosen(left))
    found[assigned.det], missed[assigned.gt] = assigned.gt, False
    matrix = np.zeros((num_classes + 1, num_classes + 1), dtype=np.int64)
    rows = np.where(found >= 0, annotated.classes[found] if len(annotated) else num_classes, num_classes)
    np.add.at(matrix, (rows[shown], detected.classes[shown]), 1)
    matrix[:num_classes, num_classes] = np.bincount(annotated.classes[missed], minlength=num_classes)
    return Confusion(matrix, found, shown, missed)


def assign_by_iou(pairs: Pairs) -> Pairs:
    """Return the pairs that remain if, by descending IoU, each detection and object is taken once."""
    order = np.lexsort((pairs.gt, pairs.det, -pairs.iou))
    kept, dets, gts = np.zeros(len(order), dtype=np.bool_), set[int](), set[int]()
    for i, d, g in zip(order.tolist(), pairs.det[order].tolist(), pairs.gt[order].tolist(), strict=True):
        if d not in dets and g not in gts:
            kept[i] = True
            dets.add(d)
            gts.add(g)
    return pairs.chosen(kept)


class AtThresholds(NamedTuple):
    """Precision and recall at IoU 0.5 of all detections from a score on, classes pooled.

    Attributes:
        scores: (S,) descending.
        precision: (S,)
        recall: (S,)
    """

    scores: Floats
    precision: Floats
    recall: Floats

    def f1(self) -> Floats:
        """Return (S,) the harmonic means of precision and recall."""
        both = self.precision + self.recall
        return np.divide(2 * self.precision * self.recall, both, out=np.zeros_like(both), where=both > 0)

    def best_score(self) -> float:
        """Return the score with the highest F1; 0.5 without detections."""
        return float(self.scores[self.f1().argmax()]) if len(self.scores) else 0.5


def by_threshold(evaluated: Evaluated, class_index: int | None = None) -> AtThresholds:
    """Return precision and recall by score threshold, of one class or of all detections pooled.

    Args:
        evaluated: Matched detections.
        class_index: The class; None for all.
    """
    outcome, detected = evaluated.outcome(), evaluated.detected
    kept = evaluated.counted & ~outcome.ignored[0]
    if class_index is not None:
        kept &= detected.classes == class_index
    rows = np.flatnonzero(kept)
    rows = rows[order_by_class(np.zeros(len(rows), dtype=np.int64), detected.scores[rows])]
    scores, hits = detected.scores[rows], np.cumsum(outcome.found[0, rows])
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)) if len(rows) else np.zeros(0, np.int64)
    num_objects = evaluated.num_objects()
    total = int(num_objects.sum() if class_index is None else num_objects[class_index])
    return AtThresholds(scores[last], hits[last] / (last + 1), hits[last] / max(total, 1))
