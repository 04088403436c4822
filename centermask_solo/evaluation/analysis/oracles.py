"""What average precision would be if one thing about the detections were perfect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from pycocotools import mask as rle

from ...structures.rle_codes import Code, code_of
from .confusion import assign_by_iou
from .errors import highest
from .evaluated import Evaluated, evaluate_detections
from .objects import Annotated, Bools, Detected, Ints, IoUType
from .overlaps import Pairs, find_overlaps
from .precision import Curves

# What each assumption does, for masks and for boxes
_OWN = "the object of its class that it overlaps most, with an IoU of 0.1 or more"
MEANINGS: dict[IoUType, dict[str, str]] = {
    "segm": {
        "true classes": "each detection has the class of the object that it overlaps most, with an IoU of 0.1 or more",
        "true boxes": "each detection loses the pixels of its mask outside of the box around the mask of " + _OWN,
        "true masks": "each detection has the mask of " + _OWN,
        "perfect ranking": "of detections and objects of a class, assigned to each other by descending IoU, the best "
        "come first, and what is left over comes last",
        "true classes and masks": "both",
    },
}
MEANINGS["bbox"] = {
    "true classes": MEANINGS["segm"]["true classes"],
    "true boxes": "each detection has the box of " + _OWN,
    "perfect ranking": MEANINGS["segm"]["perfect ranking"],
    "true classes and boxes": "both",
}

State = tuple[Detected, Pairs]


def oracles(evaluated: Evaluated, max_detections: int) -> dict[str, Curves]:
    """Return precision and recall of all classes under each assumption of ``MEANINGS`` for masks, or for boxes.

    Args:
        evaluated: Matched detections.
        max_detections: How many detections of an image and class count.
    """
    with_true_boxes = with_masks_in_true_boxes if evaluated.detected.iou_type == "segm" else with_true_shapes
    steps: dict[str, list[Callable[[Evaluated, State], State]]] = {
        "true classes": [with_true_classes],
        "true boxes": [with_true_boxes],
        "true masks": [with_true_shapes],
        "perfect ranking": [with_perfect_ranking],
        "true classes and boxes": [with_true_classes, with_true_shapes],
        "true classes and masks": [with_true_classes, with_true_shapes],
    }
    found = {}
    for name in MEANINGS[evaluated.detected.iou_type]:
        state: State = (evaluated.detected, evaluated.pairs)
        for change in steps[name]:
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


def with_masks_in_true_boxes(evaluated: Evaluated, state: State) -> State:
    """Return the detections without the pixels of their masks outside of the box of their object.

    That is the object of its class that each overlaps most, and the box around the object's mask, so that no pixel is
    lost that both share. Pixels that are missing inside of the box stay missing.
    """
    detected, pairs = state
    annotated = evaluated.annotated
    gt = _own_objects(annotated, state)
    codes, changed = detected.codes.copy(), np.zeros(len(detected), dtype=np.bool_)
    for i in np.flatnonzero(gt >= 0).tolist():
        codes[i] = inside_box_of(annotated.codes[gt[i]], codes[i])
        changed[i] = codes[i] != detected.codes[i]
    detected = replace(detected, codes=codes)  # areas and boxes matter only to groups by size and crowding
    # Of a mask that was cut, the IoU with every object is another one
    return detected, _joined(pairs.chosen(~changed[pairs.det]), find_overlaps(annotated, detected, changed))


def inside_box_of(mask: Code, other: Code) -> Code:
    """Return the part of another mask that is inside of the box around a mask."""
    (box,) = rle.frPyObjects(rle.toBbox([mask]), *mask["size"])
    return code_of(rle.merge([box, other], intersect=True), *mask["size"])


def with_true_shapes(evaluated: Evaluated, state: State) -> State:
    """Return the detections where each has the mask, or the box, of the object of its class that it overlaps most.

    Only the pairs change: such a detection has an IoU of 1 with its object and none with others.
    """
    detected, pairs = state
    gt = _own_objects(evaluated.annotated, state)
    changed = np.flatnonzero(gt >= 0)
    true = Pairs(changed, gt[changed], np.ones(len(changed)))
    return detected, _joined(pairs.chosen(gt[pairs.det] < 0), true)


def with_perfect_ranking(evaluated: Evaluated, state: State) -> State:
    """Return the detections with the IoU of the object that each is assigned to as score, and -1 without any."""
    detected, pairs = state
    assigned = assign_by_iou(pairs.chosen(_of_own_class(evaluated.annotated, state)))
    scores = np.full(len(detected), -1.0)
    scores[assigned.det] = assigned.iou
    return replace(detected, scores=scores), pairs


def _own_objects(annotated: Annotated, state: State) -> Ints:
    """Return (D,) the object of its class that each detection overlaps most; -1 for none."""
    detected, pairs = state
    return highest(pairs.chosen(_of_own_class(annotated, state)), len(detected))[1]


def _of_own_class(annotated: Annotated, state: State) -> Bools:
    """Return (P,) which pairs are of an object of the detection's class that is no crowd."""
    detected, pairs = state
    return (annotated.classes[pairs.gt] == detected.classes[pairs.det]) & ~annotated.crowds[pairs.gt]


def _joined(first: Pairs, second: Pairs) -> Pairs:
    """Return the pairs of both, sorted."""
    det, gt, iou = (np.concatenate(x) for x in zip(first, second, strict=True))
    order = np.lexsort((gt, det))
    return Pairs(det[order], gt[order], iou[order])
