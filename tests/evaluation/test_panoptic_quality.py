"""Panoptic quality of small images, computed by hand."""

import copy
import pickle

import numpy as np
import pytest

from centermask_solo.evaluation.panoptic_quality import PanopticCounts, match_segments

PERSON, CAR, SKY = 1, 3, 40


def counts(gt, gt_categories, pred, pred_categories, crowds=()):
    """Rows of digits, each of which is the segment id of a pixel; 0 is void."""
    gt, pred = (np.array([[int(c) for c in row] for row in rows.split()]) for rows in (gt, pred))
    return match_segments(gt, gt_categories, frozenset(crowds), pred, pred_categories)


def test_perfect():
    image = "1122 1122 3333"
    categories = {1: PERSON, 2: PERSON, 3: SKY}
    got = counts(image, categories, image, categories)
    assert got.matched == {PERSON: 2, SKY: 1} and not +got.missed and not +got.false_positives
    assert got.quality([PERSON, CAR, SKY]) == (100, 100, 100)  # a category that does not occur does not count


def test_ids_of_segments_do_not_matter_but_categories_do():
    renamed = counts("1122", {1: PERSON, 2: SKY}, "9955", {9: PERSON, 5: SKY})
    assert renamed.quality([PERSON, SKY]) == (100, 100, 100)
    confused = counts("1122", {1: PERSON, 2: SKY}, "1122", {1: CAR, 2: SKY})
    assert confused.quality([PERSON, SKY]) == (50, 50, 50)
    assert confused.missed == {PERSON: 1} and confused.false_positives == {CAR: 1}
    assert confused.quality([PERSON, CAR, SKY]) == pytest.approx((100 / 3, 100 / 3, 100 / 3))


def test_overlap_above_one_half_is_a_match():
    got = counts("1111 1100", {1: PERSON}, "1111 0000", {1: PERSON})
    assert got.quality([PERSON]) == pytest.approx((100 * 4 / 6, 100 * 4 / 6, 100))


def test_overlap_of_exactly_one_half_is_none():
    got = counts("1111", {1: PERSON}, "1122", {1: PERSON, 2: CAR})
    assert got.missed == {PERSON: 1} and got.false_positives == {PERSON: 1, CAR: 1}
    assert got.quality([PERSON]) == (0, 0, 0)


def test_one_segment_split_in_two():
    got = counts("1111 1111 1111", {1: PERSON}, "1111 1111 2222", {1: PERSON, 2: PERSON})
    assert got.quality([PERSON]) == pytest.approx((100 * (2 / 3) / 1.5, 100 * 2 / 3, 100 / 1.5))


def test_void_pixels_of_the_ground_truth_do_not_lower_an_iou():
    got = counts("1111 0000", {1: PERSON}, "1111 1111", {1: PERSON})
    assert got.quality([PERSON]) == (100, 100, 100)


@pytest.mark.parametrize("pred, expected", [("0000 2222 2222", 0), ("2222 2222 0000", 1), ("2222 0000 2222", 1)])
def test_a_segment_that_is_mostly_void_is_ignored(pred, expected):
    """The last is half void: not more than half."""
    got = counts("1111 0000 0000", {1: SKY}, pred, {2: PERSON})
    assert got.false_positives[PERSON] == expected and got.missed == {SKY: 1}


@pytest.mark.parametrize("category, expected", [(PERSON, 0), (CAR, 1)])
def test_segments_in_a_crowd_of_their_category_are_ignored(category, expected):
    got = counts("1111 1111 2222", {1: PERSON, 2: SKY}, "3344 3344 2222", {3: category, 4: PERSON, 2: SKY}, crowds={1})
    assert got.false_positives[category] == expected
    assert not got.missed[PERSON] and not got.matched[PERSON]  # neither missed nor matched
    assert got.quality([SKY]) == (100, 100, 100)


def test_void_and_crowd_add_up():
    """A quarter void, a quarter and a bit crowd."""
    got = counts("0011 1222", {1: PERSON, 2: SKY}, "3333 3333", {3: PERSON}, crowds={1})
    assert got.false_positives[PERSON] == 0 and got.missed == {SKY: 1}


def test_nothing_predicted():
    got = counts("1122", {1: PERSON, 2: SKY}, "0000", {})
    assert got.quality([PERSON, SKY]) == (0, 0, 0)


def test_predicted_segments_without_pixels_do_not_count():
    got = counts("1111", {1: PERSON}, "1111", {1: PERSON, 7: CAR})
    assert got.quality([PERSON, CAR]) == (100, 100, 100)


def test_nothing_at_all_is_nan():
    assert np.isnan(counts("0000", {}, "0000", {}).quality([PERSON])).all()


def test_several_images_are_counted_together_not_averaged():
    total = PanopticCounts()
    total += counts("1111 1100", {1: PERSON}, "1111 0000", {1: PERSON})  # IoU 2/3
    total += counts("1111", {1: PERSON}, "1111", {1: PERSON})
    total += counts("1111", {1: PERSON}, "0000", {})
    total += counts("1111", {1: SKY}, "2222", {2: PERSON})
    expected = 100 * (5 / 3) / (2 + 0.5 + 0.5)
    assert total.quality([PERSON]) == pytest.approx((expected, 100 * (5 / 3) / 2, 100 * 2 / 3))
    assert total.quality([PERSON, SKY]) == pytest.approx((expected / 2, 100 * (5 / 3) / 4, 100 / 3))


def test_counts_pass_between_processes():
    total = counts("1111 1100", {1: PERSON}, "1111 0000", {1: PERSON})
    assert pickle.loads(pickle.dumps(total)) == total
    assert copy.deepcopy(total) == total


def test_large_segment_ids():
    gt, pred = np.full((2, 2), 2**24 - 1), np.full((2, 2), 2**31 - 1)
    got = match_segments(gt, {2**24 - 1: CAR}, frozenset(), pred, {2**31 - 1: CAR})
    assert got.quality([CAR]) == (100, 100, 100)
