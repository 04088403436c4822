"""The kinds of errors, and how much average precision each costs.

Source: Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors",
https://arxiv.org/abs/2008.08115, section 2. All at IoU 0.5.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .evaluated import Evaluated
from .matching import THRESHOLDS
from .objects import Bools, Floats, Ints
from .overlaps import Pairs
from .precision import Outcomes, accumulate

# In the order in which they are tried: a detection has the first kind that fits
KINDS = ("localization", "classification", "duplicate", "both", "background")
MISSED = "missed"
MEANINGS = {
    "localization": "right class, IoU below 0.5",
    "classification": "wrong class, IoU of 0.5 or more",
    "duplicate": "right class, IoU of 0.5 or more, but a detection with a higher score has found the object",
    "both": "wrong class, IoU below 0.5",
    "background": "IoU below 0.1 with every object",
    MISSED: "an object that no detection finds, not even with a localization or classification error",
    "false positives": "all of the above except missed ones",
    "false negatives": "all objects that are not found",
}
_FOREGROUND = THRESHOLDS[0]


class Errors(NamedTuple):
    """The errors of a model at IoU 0.5.

    Attributes:
        kind: (D,) index in ``KINDS`` of each detection; -1 for those that are right or do not count.
        gt: (D,) the object that a detection with the error should have found, or overlaps most; -1 for none.
        missed: (G,) which objects are missed.
    """

    kind: Ints
    gt: Ints
    missed: Bools

    def counts(self) -> dict[str, int]:
        """Return the number of errors of each kind."""
        counts = np.bincount(self.kind[self.kind >= 0], minlength=len(KINDS)).tolist()
        return {**dict(zip(KINDS, counts, strict=True)), MISSED: int(self.missed.sum())}


def find_errors(evaluated: Evaluated) -> Errors:
    """Return the kind of error of each detection, and the missed objects."""
    annotated, detected, outcome = evaluated.annotated, evaluated.detected, evaluated.outcome()
    wrong = evaluated.counted & ~outcome.found[0] & ~outcome.ignored[0]
    pairs = evaluated.pairs.chosen(~annotated.crowds[evaluated.pairs.gt])
    own_class = annotated.classes[pairs.gt] == detected.classes[pairs.det]
    own_iou, own_gt = highest(pairs.chosen(own_class), len(detected))
    other_iou, other_gt = highest(pairs.chosen(~own_class), len(detected))
    conditions = [
        (own_gt >= 0) & (own_iou < _FOREGROUND),
        (other_gt >= 0) & (other_iou >= _FOREGROUND),
        own_iou >= _FOREGROUND,
        other_gt >= 0,
        np.ones(len(detected), dtype=np.bool_),
    ]
    kind = np.where(wrong, np.argmax(conditions, axis=0), -1)
    concerned = np.select([kind == 0, kind == 1, kind == 2, kind == 3], [own_gt, other_gt, own_gt, other_gt], -1)
    missed = ~annotated.crowds
    missed[evaluated.found_by[outcome.found[0]]] = False
    missed[concerned[(kind == 0) | (kind == 1)]] = False
    return Errors(kind, concerned, missed)


def highest(pairs: Pairs, num_detections: int) -> tuple[Floats, Ints]:
    """Return (D,) the highest IoU of each detection and its object; 0 and -1 without a pair."""
    iou, gt = np.zeros(num_detections), np.full(num_detections, -1, dtype=np.int64)
    order = np.lexsort((pairs.iou, pairs.det))
    iou[pairs.det[order]], gt[pairs.det[order]] = pairs.iou[order], pairs.gt[order]  # of several the last one stays
    return iou, gt


def costs(evaluated: Evaluated, errors: Errors) -> dict[str, float]:
    """Return how many points of average precision at IoU 0.5 are won where only one kind of error is fixed.

    A localization or classification error becomes a find of its object, or is removed if a detection with a higher
    score finds that; the others are removed. Missed objects are removed from the ground truth.
    """
    fixer = _Fixer(evaluated, errors)
    before = fixer.ap()
    won = {name: fixer.ap_without(name) - before for name in (*KINDS, MISSED)}
    won["false positives"] = fixer.ap(removed=errors.kind >= 0)
    objects = ~evaluated.annotated.crowds
    objects[evaluated.found_by[evaluated.outcome().found[0]]] = False
    won["false negatives"] = fixer.ap(missed=objects)
    return {**won, **{name: won[name] - before for name in ("false positives", "false negatives")}}


class _Fixer:
    """Average precision at IoU 0.5 after a change of detections or objects."""

    def __init__(self, evaluated: Evaluated, errors: Errors) -> None:
        self._evaluated, self._errors = evaluated, errors
        outcome = evaluated.outcome()
        self._found, self._ignored = outcome.found[0], outcome.ignored[0]
        self._nothing = np.zeros(len(evaluated.detected), dtype=np.bool_)

    def ap_without(self, name: str) -> float:
        """Return the average precision without a kind of error."""
        if name == MISSED:
            return self.ap(missed=self._errors.missed)
        wrong = self._errors.kind == KINDS.index(name)
        if name not in ("localization", "classification"):
            return self.ap(removed=wrong)
        # Of all that find an object now, the one with the highest score stays
        detected, objects = self._evaluated.detected, self._evaluated.annotated
        target = np.where(wrong, self._errors.gt, np.where(self._found, self._evaluated.found_by, -1))
        finders = np.flatnonzero(target >= 0)
        order = finders[np.lexsort((finders, -detected.scores[finders], target[finders]))]
        first = np.ones(len(order), dtype=np.bool_)
        first[1:] = target[order[1:]] != target[order[:-1]]
        found, removed = self._nothing.copy(), self._nothing.copy()
        found[order[first]], removed[order[~first]] = True, True
        classes = detected.classes.copy()
        classes[wrong] = objects.classes[target[wrong]]
        return self.ap(found=found, removed=removed, classes=classes)

    def ap(
        self,
        *,
        found: Bools | None = None,
        removed: Bools | None = None,
        classes: Ints | None = None,
        missed: Bools | None = None,
    ) -> float:
        """Return the average precision where some detections find objects, are removed, or have another class."""
        evaluated = self._evaluated
        objects, num_classes = evaluated.annotated, len(evaluated.annotated.names)
        single = ~objects.crowds if missed is None else ~objects.crowds & ~missed
        curves = accumulate(
            Outcomes((self._found if found is None else found)[None], self._ignored[None]),
            evaluated.detected.classes if classes is None else classes,
            evaluated.detected.scores,
            evaluated.counted & ~(self._nothing if removed is None else removed),
            np.bincount(objects.classes[single], minlength=num_classes),
            num_classes,
        )
        return curves.ap()
