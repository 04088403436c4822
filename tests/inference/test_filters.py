"""Which instances are kept."""

import numpy as np
import pytest

from centermask_solo.inference.filters import Filters
from centermask_solo.structures.mask_formats import packed
from centermask_solo.utils.errors import ConfigError
from tests.inference.colors import make_instances

NAMES = ["person", "dog", "cat"]


def masks(*boxes, size=(40, 60)):
    found = np.zeros((len(boxes), *size), bool)
    for mask, (x0, y0, x1, y1) in zip(found, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    return found


def instances():
    """Two dogs in one place, a person nearly there, and a small cat."""
    boxes = [(0, 0, 20, 20), (1, 0, 21, 20), (40, 30, 43, 32), (2, 0, 22, 20)]
    return make_instances(masks(*boxes), [0.5, 0.9, 0.7, 0.8], [1, 1, 2, 0])


def kept(**options):
    found = Filters(**options).apply(instances(), NAMES)
    return [(NAMES[c], round(s, 1)) for c, s in zip(found.pred_classes.tolist(), found.scores.tolist(), strict=True)]


def test_all_are_kept_the_best_first():
    assert kept() == [("dog", 0.9), ("person", 0.8), ("cat", 0.7), ("dog", 0.5)]


def test_scores_classes_numbers_and_areas():
    assert kept(score_threshold=0.75) == [("dog", 0.9), ("person", 0.8)]
    assert kept(classes=["cat", "person"]) == [("person", 0.8), ("cat", 0.7)]
    assert kept(classes=[]) == []
    assert kept(max_detections=1) == [("dog", 0.9)]
    assert kept(min_area=7) == [("dog", 0.9), ("person", 0.8), ("dog", 0.5)] and len(kept(min_area=6)) == 4


def test_class_agnostic_nms_keeps_the_best_of_those_that_overlap():
    assert kept(class_agnostic_nms=True) == [("dog", 0.9), ("cat", 0.7)]
    assert kept(class_agnostic_nms=True, classes=["person", "cat"]) == [("person", 0.8), ("cat", 0.7)]
    boxes = instances()
    boxes.remove("pred_masks")
    found = Filters(class_agnostic_nms=True, min_area=7).apply(boxes, NAMES)
    assert found.pred_classes.tolist() == [1]


def test_connected_parts_become_instances():
    mask = masks((0, 0, 10, 10)) | masks((20, 20, 25, 26)) | masks((25, 26, 27, 28))  # the last touches by a corner
    found = make_instances(mask, [0.6], [2])
    parts = Filters(split_components=True).apply(found, NAMES)
    assert packed(parts.pred_masks).areas().tolist() == [100, 30, 4]
    assert parts.pred_boxes.tensor.tolist() == [[0, 0, 10, 10], [20, 20, 25, 26], [25, 26, 27, 28]]
    assert parts.pred_classes.tolist() == [2, 2, 2] and len(set(parts.scores.tolist())) == 1
    assert len(Filters(split_components=True, min_area=5).apply(found, NAMES)) == 2


def test_nothing_stays_nothing():
    nothing = make_instances(np.zeros((0, 4, 4)))
    assert len(Filters(0.5, NAMES, True, True, 3, 4).apply(nothing, NAMES)) == 0


def test_unknown_classes_are_an_error():
    with pytest.raises(ConfigError, match=r"no class 'persn'; the nearest one is person: choose from person, dog, cat"):
        kept(classes=["persn"])
    with pytest.raises(ConfigError, match="does not say how its classes are called"):
        Filters(classes=["dog"]).apply(instances(), [])
