import math

import pytest
import torch

from centermask_solo.modeling.fcos.targets import build_targets, centerness_targets, match_locations, regression_ranges
from tests.oracles import fcos as oracles

SIZES, STRIDES = [(12, 16), (6, 8), (3, 4), (2, 2), (1, 1)], [8, 16, 32, 64, 128]
RANGES = regression_ranges([16, 32, 64, 100])


def random_boxes(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([120.0, 90.0]) - 10
    return torch.cat([corner, corner + torch.rand(count, 2, generator=generator) ** 2 * 110 + 1], dim=1)


def test_ranges_cover_every_distance_once():
    assert regression_ranges([64, 128]) == [(0, 64), (64, 128), (128, math.inf)]


@pytest.mark.parametrize("radius", [1.5, 0.7, None])
@pytest.mark.parametrize("seed", range(3))
def test_matching_equals_the_literal_version(radius, seed):
    boxes = random_boxes(40, seed).double()
    got = match_locations(boxes, SIZES, STRIDES, RANGES, radius)
    expected = oracles.match(boxes.tolist(), SIZES, STRIDES, [0, 16, 32, 64, 100, math.inf], radius)
    assert [-1 if m == 40 else m for m in got.tolist()] == expected
    assert len({*expected}) > 4


def test_matching_does_not_depend_on_the_chunk(monkeypatch):
    boxes = random_boxes(30)
    whole = match_locations(boxes, SIZES, STRIDES, RANGES, 1.5)
    monkeypatch.setattr("centermask_solo.ops.chunks.CHUNK_BYTES", 1)
    assert torch.equal(match_locations(boxes, SIZES, STRIDES, RANGES, 1.5), whole)


def test_smallest_box_wins_and_the_first_of_equals():
    large, small, other = [0.0, 0.0, 60.0, 60.0], [20.0, 20.0, 40.0, 40.0], [16.0, 15.0, 26.0, 55.0]  # areas 400, 400
    sizes, strides, ranges = [(8, 8)], [8], [(0.0, math.inf)]
    at = 3 * 8 + 2  # location (20 + .., 28): x = 20 lies on small's side, take (3, 2) -> x = 20, y = 28
    for boxes, winner in [([large, small, other], 2), ([other, large, small], 0)]:
        got = match_locations(torch.tensor(boxes), sizes, strides, ranges, None)
        assert got[at] == winner  # strictly inside `other` and `large` only: small's left side is at x = 20
    at = 3 * 8 + 3  # (28, 28): in large and small
    assert match_locations(torch.tensor([large, small]), sizes, strides, ranges, None)[at] == 1
    twins = torch.tensor([large, small, small])
    assert match_locations(twins, sizes, strides, ranges, None)[at] == 1
    assert match_locations(twins.flip(0), sizes, strides, ranges, None)[at] == 0


def test_sides_and_center_square_are_strict_and_ranges_inclusive():
    ends = [(0.0, 16.0), (16.0, 64.0)]
    box = torch.tensor([[0.0, 0.0, 32.0, 32.0]])  # (16, 16) is no location of stride 8: 12 and 20 are
    got = match_locations(box, [(4, 4), (2, 2)], [8, 16], ends, None)
    assert (got[:16] == 1).all()  # the nearest location is 20 away from one side
    assert (got[16:] == 0).all()  # (8, 8): 24 away
    box = torch.tensor([[4.0, 4.0, 20.0, 20.0]])  # center (12, 12) is a location; (4, 4) lies on the corner
    got = match_locations(box, [(4, 4)], [8], [(0.0, math.inf)], None).reshape(4, 4)
    assert (got == 0).nonzero().tolist() == [[1, 1]]
    got = match_locations(torch.tensor([[2.0, 2.0, 22.0, 22.0]]), [(4, 4)], [8], [(10.0, 10.0)], 1.5).reshape(4, 4)
    assert (got == 0).nonzero().tolist() == [[1, 1]]  # its largest distance is 10, both ends of the range
    got = match_locations(torch.tensor([[-50.0, -50.0, 74.0, 74.0]]), [(4, 4)], [8], [(0.0, math.inf)], 1.0)
    assert (got.reshape(4, 4) == 0).nonzero().tolist() == [[1, 1]]  # 4 and 20 are exactly one stride from the center


def test_targets_of_a_batch():
    boxes, no_boxes = torch.tensor([[2.0, 4.0, 26.0, 22.0]]), torch.zeros(0, 4)
    got = build_targets(
        [boxes, no_boxes],
        [torch.tensor([7]), torch.zeros(0, dtype=torch.int64)],
        [(4, 4), (2, 2)],
        strides=[8, 16],
        ranges=[(0.0, 64.0), (64.0, math.inf)],
        radius=1.5,
        num_classes=80,
    )
    assert got.classes.shape == (2, 20)
    assert (got.classes[1] == 80).all()
    assert got.ltrb[1].eq(0).all() and got.centerness[1].eq(0).all()
    at = 1 * 4 + 1  # (12, 12)
    assert got.classes[0, at] == 7
    assert got.ltrb[0, at].tolist() == [10 / 8, 8 / 8, 14 / 8, 10 / 8]
    assert got.centerness[0, at].item() == pytest.approx(math.sqrt(10 / 14 * 8 / 10))
    positive = got.classes[0] == 7
    assert positive[16:].sum() == 0  # the box is too small for the second level
    assert (got.ltrb[0][~positive] == 0).all() and (got.centerness[0][~positive] == 0).all()


def test_an_object_centered_at_x_zero_counts():
    """A published implementation treats such an image as empty."""
    got = match_locations(torch.tensor([[-20.0, 2.0, 20.0, 30.0]]), [(4, 4)], [8], [(0.0, math.inf)], 1.5)
    assert (got == 0).any()


def test_centerness_is_one_at_the_center_and_zero_for_background():
    assert centerness_targets(torch.tensor([[2.0, 3.0, 2.0, 3.0], [0.0, 0.0, 0.0, 0.0]])).tolist() == [1.0, 0.0]
