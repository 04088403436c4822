"""Objects keep their numbers while they move, cross, hide and come back."""

import numpy as np
import pytest
import torch

from centermask_solo.inference.tracking import Tracker
from tests.inference.colors import make_instances

SIZE = (60, 200)


def disk(x, y=30, radius=10):
    rows, columns = np.ogrid[: SIZE[0], : SIZE[1]]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def frame(*masks, scores=None, classes=None):
    return make_instances(np.array(masks).reshape(-1, *SIZE), scores, classes)


def test_moving_objects_keep_their_numbers_in_any_order():
    tracker, generator = Tracker(0.5), np.random.default_rng(0)
    for t in range(30):
        masks = [disk(20 + 4 * t, 15), disk(180 - 4 * t, 45), disk(100, 30, 6)]
        order = generator.permutation(3)
        found = tracker.update(frame(*(masks[i] for i in order)))
        if not t:
            numbers = dict(zip(order.tolist(), found.track_ids.tolist(), strict=True))
            assert sorted(numbers.values()) == [1, 2, 3]
        assert found.track_ids.tolist() == [numbers[i] for i in order.tolist()]


def test_objects_that_cross_keep_their_numbers():
    """The one in front hides the other, of the same class, for some frames."""
    tracker = Tracker(0.5)
    for t in range(41):
        front, behind = disk(20 + 4 * t), disk(180 - 4 * t)
        visible = behind & ~front
        masks = [front, visible] if visible.any() else [front]
        found = tracker.update(frame(*masks)).track_ids.tolist()
        if t in (0, 40):
            assert found == [1, 2]
        assert found[0] == 1 and len(set(found)) == len(found)
        assert set(found) <= {1, 2}


def cross(x, size=25, arm=4):
    rows, columns = np.ogrid[: SIZE[0], : SIZE[1]]
    across, down = abs(columns - x), abs(rows - 30)
    return ((across <= arm) & (down <= size)) | ((down <= arm) & (across <= size))


@pytest.mark.parametrize("speed", [4.45, 5.7])
def test_shapes_with_thin_parts_keep_their_numbers_as_they_cross(speed):
    """While an object is hidden, what is expected of it drifts by a pixel or two, which thin parts do not forgive."""
    tracker = Tracker(0.5)
    for t in range(int(140 / speed)):
        front, behind = cross(round(30 + speed * t)), cross(round(170 - speed * t))
        visible = behind & ~front
        masks = [front, visible] if visible.sum() > 40 else [front]
        scores = [0.9, 0.9 * float(visible.sum() / behind.sum())][: len(masks)]
        assert tracker.update(frame(*masks, scores=scores)).track_ids.tolist() == [1, 2][: len(masks)]


def test_an_object_that_hides_is_the_same_when_it_comes_back_in_time():
    for gap, expected in ((10, 1), (12, 2)):
        tracker = Tracker(0.5, max_age=10)
        for t in range(20 + gap):
            is_hidden = 10 <= t < 10 + gap
            found = tracker.update(frame(*([] if is_hidden else [disk(20 + 3 * t)])))
            assert len(found) == (0 if is_hidden else 1)
        assert found.track_ids.tolist() == [expected]


def test_low_scores_continue_tracks_but_begin_none():
    tracker = Tracker(0.5)
    assert len(tracker.update(frame(disk(50), scores=[0.4]))) == 0
    assert tracker.update(frame(disk(50), scores=[0.6])).track_ids.tolist() == [1]
    found = tracker.update(frame(disk(52), disk(150), scores=[0.2, 0.3]))
    assert found.track_ids.tolist() == [1] and found.scores.tolist() == [np.float32(0.2)]


def test_a_good_score_wins_over_a_better_overlap_of_a_low_one():
    tracker = Tracker(0.5)
    tracker.update(frame(disk(50)))
    found = tracker.update(frame(disk(50), disk(54), scores=[0.3, 0.9]))
    assert found.track_ids.tolist() == [1] and found.scores.tolist() == [np.float32(0.9)]


def test_another_class_is_another_object():
    tracker = Tracker(0.5)
    assert tracker.update(frame(disk(50), classes=[0])).track_ids.tolist() == [1]
    assert tracker.update(frame(disk(60), classes=[1])).track_ids.tolist() == [2]  # where the first would still be 1


def test_boxes_and_empty_frames_can_be_tracked():
    tracker = Tracker(0.5)
    for t in range(5):
        found = frame(disk(50 + 3 * t))
        found.remove("pred_masks")
        assert tracker.update(found).track_ids.tolist() == [1]
    nothing = tracker.update(frame())
    assert len(nothing) == 0 and nothing.track_ids.dtype == torch.int64


def test_an_object_whose_class_is_in_doubt_keeps_its_number():
    tracker = Tracker(0.5)
    classes = [0, 0, 1, 0, 1, 1, 1, 0]
    found = [tracker.update(frame(disk(20 + 2 * t), classes=[x])).track_ids.tolist() for t, x in enumerate(classes)]
    assert found == [[1]] * len(classes)


def test_another_object_where_one_was_does_not_take_its_number():
    """Of another class: beside it, or some frames later."""
    tracker = Tracker(0.5)
    assert tracker.update(frame(disk(20), classes=[0])).track_ids.tolist() == [1]
    assert tracker.update(frame(disk(20), disk(21), classes=[0, 1])).track_ids.tolist() == [1, 2]
    tracker = Tracker(0.5)
    tracker.update(frame(disk(20), classes=[0]))
    tracker.update(frame())
    assert tracker.update(frame(disk(20), classes=[1])).track_ids.tolist() == [2]
