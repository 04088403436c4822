"""The shares of objects that options lose, computed by hand."""

import pytest
import torch

from centermask_solo.config import default_config
from centermask_solo.modeling.fcos.suggestions import share_of_levels
from centermask_solo.modeling.solov2.suggestions import collided, quantile_ranges, suggest, uncovered
from centermask_solo.modeling.suggestions import (
    InputObjects,
    Suggestion,
    best_option,
    first_enough,
    quantiles,
    strides_of,
)
from centermask_solo.modeling.yolact.suggestions import Anchors, improve, without_anchor


def objects(*boxes, images=None, size=(100.0, 100.0)):
    number = len(boxes)
    images = torch.zeros(number, dtype=torch.int64) if images is None else torch.tensor(images)
    return InputObjects(torch.tensor(boxes, dtype=torch.float64), images, torch.tensor([size] * number).double())


def test_objects_outside_of_all_ranges():
    found = objects([0, 0, 10, 10], [0, 0, 40, 90], [0, 0, 90, 90])  # 10, 60 and 90
    assert uncovered(found, [(1, 20), (30, 60)]) == pytest.approx(1 / 3)
    assert uncovered(found, [(10, 90)]) == 0


def test_objects_that_share_cells():
    same = objects([40, 40, 60, 60], [45, 45, 55, 55])
    assert collided(same, [4], [(1, 100)], 0.2) == 0.5  # the later one wins
    assert collided(same, [4, 4], [(1, 15), (15, 100)], 0.2) == 0  # on levels of their own
    assert collided(objects(*same.boxes.tolist(), images=[0, 1]), [4], [(1, 100)], 0.2) == 0
    assert collided(same, [4], [(1, 2)], 0.2) == 0  # without a level there is no cell to lose
    apart = objects([10, 10, 30, 30], [70, 70, 90, 90])
    assert collided(apart, [4], [(1, 100)], 0.2) == 0
    assert collided(apart, [1], [(1, 100)], 0.2) == 0.5


def test_ranges_from_the_objects_cover_them_all():
    found = objects(*([0, 0, x, x] for x in range(2, 52)), [0, 0, 3000, 3000])
    ranges = quantile_ranges(found, 3, 2048)
    assert ranges == [(1, 27), (13, 51), (25, 3000)]
    assert uncovered(found, ranges) == 0


def test_what_is_lost_now_is_lost_with_the_ranges_of_now():
    cfg = default_config()
    same = objects(*([x, 40, x + 20, 60] for x in range(40)))  # one cell each, if their level takes them
    cfg.MODEL.SOLOV2.NUM_GRIDS, cfg.MODEL.SOLOV2.SCALE_RANGES = [4], ((200, 300),)
    _, grids = suggest(cfg, same)
    assert grids.lost == 0 and grids.lost_then > 0.5  # without a level there is no cell to lose


@pytest.mark.parametrize(("lost", "verdict"), [(0.004, "fits: 0.4% of them"), (0.031, "tried: 3.1% of them")])
def test_an_option_without_a_better_value_fits_only_if_little_is_lost(lost, verdict):
    assert str(Suggestion("KEY", 1, 1, "uncovered", "of them", lost, lost)).endswith(verdict)


def test_objects_without_locations():
    found = objects([0, 0, 64, 64], [9, 9, 12, 12])  # locations of stride 8 are at 4, 12, ...
    assert share_of_levels(found, [8], [], None) == [0.5, 0.5]
    assert share_of_levels(found, [2], [], None) == [0, 1]
    assert share_of_levels(found, [8, 16], [16], 1.5) == [0.5, 0, 0.5]
    assert share_of_levels(found, [8, 16], [500], 1.5) == [0.5, 0.5, 0]


def test_objects_without_anchors():
    found = objects([0, 0, 10, 10], [5, 5, 25, 15])
    assert without_anchor(found, torch.tensor([[10.0, 10.0]]).double(), 0.51) == 0.5  # the other overlaps by half
    assert without_anchor(found, torch.tensor([[10.0, 10.0], [20.0, 10.0]]).double(), 0.99) == 0

    def lost(x):
        return without_anchor(found, torch.tensor([[x.sizes[0][0]] * 2]).double(), 0.45)

    assert lost(Anchors([[30]], [[1.0]])) == 1
    assert lost(improve(Anchors([[30]], [[1.0]]), lost)) == 0.5


def test_choices():
    lost = {1: 0.5, 2: 0.3, 3: 0.298, 4: 0.2}.__getitem__
    assert best_option(1, [2, 3, 4], lost) == (4, 0.5, 0.2)
    assert best_option(2, [3], lost) == (2, 0.3, 0.3)  # too little to be worth a change
    assert first_enough(1, [2, 3, 4], lost, 0.3) == (2, 0.5, 0.3)
    assert first_enough(4, [1], lost, 0.3) == (4, 0.2, 0.2)
    assert quantiles(torch.arange(10.0), 1) == [5.0]
    assert strides_of(["p3", "p5"]) == [8, 32] and strides_of(["p3", "res4"]) is None
