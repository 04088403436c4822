"""Which detections of two results are taken for the same."""

from types import SimpleNamespace

import numpy as np

from centermask_solo.export.verification import compare
from centermask_solo.runtime.instances import ExportedInstances

METADATA = SimpleNamespace(score_tolerance=1e-3, score_threshold=0.05, max_detections=100)


def result(order, last_row=4):
    """Two objects of one class with the same box: the frame of a square, and its diagonals."""
    frame = np.ones((6, 6), bool)
    frame[1:5, 1:5] = False
    diagonals = np.eye(6, dtype=bool) | np.eye(6, dtype=bool)[::-1]
    diagonals[last_row, :3] ^= True
    return ExportedInstances(
        (6, 6),
        pred_boxes=np.array([[0, 0, 6, 6]] * 2, np.float32),
        scores=np.array([0.5, 0.5], np.float32),
        pred_classes=np.zeros(2, np.int64),
        pred_masks=np.stack([frame, diagonals])[order],
    )


def test_masks_tell_apart_detections_with_the_same_box():
    difference = compare("", result([0, 1]), result([1, 0]), METADATA)
    assert (difference.matched, difference.mask_iou) == (2, 1.0)


def test_another_mask_in_the_same_box_is_a_difference():
    difference = compare("", result([0, 1]), result([1, 0], last_row=2), METADATA)
    assert difference.matched == 2
    assert difference.mask_iou < 0.9


def test_a_strange_mask_in_the_same_box_is_no_partner():
    reference, found = result([0, 1]), result([0, 0])
    difference = compare("", reference, found, METADATA)
    assert (difference.matched, difference.mask_iou) == (1, 1.0)
    assert difference.reference + difference.found - 2 * difference.matched - difference.borderline == 2


def test_results_without_detections():
    """An image may have none, in either result: they differ by the detections of the other."""
    both, none = result([0, 1]), result([0, 1])[:0]
    for reference, found in ((none, none), (both, none), (none, both)):
        difference = compare("", reference, found, METADATA)
        assert (difference.reference, difference.found) == (len(reference), len(found))
        assert (difference.matched, difference.box, difference.score, difference.mask_iou) == (0, 0, 0, 1)
