"""What average precision would be if one thing about the detections were perfect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from .confusion import assign_by_iou
from .errors import highest
from .evaluated import Evaluated, evaluate_detections
from .objects import Detected
from .overlaps import Pairs
from .precision import Curves

MEANINGS = {
    "true classes": "each detection has the class of the object that it overlaps most, with an IoU of 0.1 or more",
    "true masks": "each detection has the mask of the object of its class that it overlaps most, with an IoU of 0.1 or "
    "more",
    "perfect ranking": "of detections and objects of a class, assigned to each other by descending IoU, the best come "
    "first, and what is left over comes last",
    "true classes and masks": "both",
}

State = tuple[Detected, Pairs]


def oracles(evaluated: Evaluated, max_detections: int) -> dict[str, Curves]:
    """Return precision and recall of all classes under each assumption of ``MEANINGS``.

    Args:
        evaluated: Matched detections.
        max_detections: How many detections of an image and class count.
    """
    steps: dict[str, list[Callable[[Evaluated, State], State]]] = {
        "true classes": [with_true_classes],
        "true masks": [with_true_masks],
        "perfect ranking": [with_perfect_ranking],
        "true classes and masks": [with_true_classes, with_true_masks],
    }
    found = {}
    for name, changes in steps.items():
        state: State = (evaluated.detected, evaluated.pairs)
        for change in changes:
            state = change(evaluated, state)
        changed = evaluate_detections(
            *(evaluated.annotated, state[0]),
            pairs=state[1],
            groups=evaluated.groups[:1],
            max_detections=max_detections,
        )
        found[name] = changed.curves()
    return found


def with_true_classes(evaluated: Evaluated, state: State) -> State:
    """Return the detections with the class of the object that each overlaps most."""
    detected, pairs = state
    annotated = evaluated.annotated
    _, gt = highest(pairs.chosen(~annotated.crowds[pairs.gt]), len(detected))
    classes = detected.classes.copy()
    classes[gt >= 0] = annotated.classes[gt[gt >= 0]]
    return replace(detected, classes=classes), pairs


def with_true_masks(evaluated: Evaluated, state: State) -> State:
    """Return the detections where each has the mask of the object of its class that it overlaps most.

    Only the pairs change: such a detection has an IoU of 1 with its object and none with others.
    """
    detected, pairs = state
    annotated = evaluated.annotated
    own = (annotated.classes[pairs.gt] == detected.classes[pairs.det]) & ~annotated.crowds[pairs.gt]
    _, gt = highest(pairs.chosen(own), len(detected))
    changed = np.flatnonzero(gt >= 0)
    others = pairs.chosen(gt[pairs.det] < 0)
    det, gts = np.concatenate([others.det, changed]), np.concatenate([others.gt, gt[changed]])
    order = np.lexsort((gts, det))
    return detected, Pairs(det[order], gts[order], np.concatenate([others.iou, np.ones(len(changed))])[order])


def with_perfect_ranking(evaluated: Evaluated, state: State) -> State:
    """Return the detections with the IoU of the object that each is assigned to as score, and -1 without any."""
    detected, pairs = state
    annotated = evaluated.annotated
    own = (annotated.classes[pairs.gt] == detected.classes[pairs.det]) & ~annotated.crowds[pairs.gt]
    assigned = assign_by_iou(pairs.chosen(own))
    scores = np.full(len(detected), -1.0)
    scores[assigned.det] = assigned.iou
    return replace(detected, scores=scores), pairs
