import math

import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks, PolygonMasks, polygons_to_bitmask

from centermask_solo.modeling.centermask import targets as module
from centermask_solo.modeling.centermask.targets import (
    MaskTargets,
    bitmask_mask_targets,
    build_fcos_targets,
    centerness_targets,
    mask_iou_targets,
    match_locations,
    polygon_mask_targets,
    regression_ranges,
)
from tests import oracles

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
    expected = oracles.fcos_match(boxes.tolist(), SIZES, STRIDES, [0, 16, 32, 64, 100, math.inf], radius)
    assert [-1 if m == 40 else m for m in got.tolist()] == expected
    assert len({*expected}) > 4


def test_matching_does_not_depend_on_the_chunk(monkeypatch):
    boxes = random_boxes(30)
    whole = match_locations(boxes, SIZES, STRIDES, RANGES, 1.5)
    monkeypatch.setattr(module, "_MAX_PAIRS", 1)
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
    got = build_fcos_targets(
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


def test_an_object_centred_at_x_zero_counts():
    """A published implementation takes such an image for an empty one."""
    got = match_locations(torch.tensor([[-20.0, 2.0, 20.0, 30.0]]), [(4, 4)], [8], [(0.0, math.inf)], 1.5)
    assert (got == 0).any()


def test_centerness_of_the_middle_is_one_and_of_nothing_zero():
    assert centerness_targets(torch.tensor([[2.0, 3.0, 2.0, 3.0], [0.0, 0.0, 0.0, 0.0]])).tolist() == [1.0, 0.0]


def star(center, radius, points=9):
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    reach = radius * (1 + 0.3 * np.cos(3 * angle))
    return np.stack([center[0] + reach * np.cos(angle), center[1] + reach * np.sin(angle)], axis=1).reshape(-1)


POLYGONS = [
    [star((40, 40), 20)],
    [star((70, 30), 12), star((90, 60), 15)],  # two parts
    [np.array([10.0, 10.0, 90.0, 10.0, 90.0, 70.0, 10.0, 70.0])],
]
ROIS = torch.tensor(
    [[15.0, 15.0, 65.0, 65.0], [50.0, 10.0, 110.0, 80.0], [75.2, 40.7, 120.0, 100.0], [-20.0, -10.0, 50.0, 40.0]]
)
INDEX = torch.tensor([0, 1, 1, 2])


def test_polygon_masks_are_detectron2s():
    got = polygon_mask_targets(POLYGONS, ROIS, INDEX, 28)
    expected = PolygonMasks([POLYGONS[i] for i in INDEX]).crop_and_resize(ROIS, 28)
    assert torch.equal(got.masks, expected)


def test_crop_ratios_are_shares_of_the_area():
    ratios = polygon_mask_targets(POLYGONS, ROIS, INDEX, 28).crop_ratios
    assert ratios[0].item() == pytest.approx(1, abs=0.02)  # inside altogether
    assert ratios[1].item() == pytest.approx(1, abs=0.02)
    assert 0.3 < ratios[2] < 0.7  # the second part only
    assert ratios[3].item() == pytest.approx(40 * 30 / (80 * 60), abs=0.02)


def test_crop_ratio_counts_overlapping_polygons_twice_and_clamps():
    square = np.array([0.0, 0.0, 10.0, 0.0, 10.0, 10.0, 0.0, 10.0])
    got = polygon_mask_targets([[square, square]], torch.tensor([[0.0, 0.0, 10.0, 5.0]]), torch.tensor([0]), 28)
    assert got.crop_ratios.item() == pytest.approx(0.5)
    for box in ([30.0, 30.0, 40.0, 40.0], [0.0, 0.0, 0.9, 5.0], [5.0, 5.0, 5.0, 5.0]):  # nothing, or no canvas
        got = polygon_mask_targets([[square]], torch.tensor([box]), torch.tensor([0]), 28)
        assert got.crop_ratios.item() == pytest.approx(1e-10)


def bitmasks():
    return torch.stack([torch.from_numpy(polygons_to_bitmask(p, 100, 120)) for p in POLYGONS])


def test_bitmask_targets_agree_with_detectron2_and_with_the_polygons():
    got = bitmask_mask_targets(bitmasks(), ROIS, INDEX, 28)
    assert torch.equal(got.masks, BitMasks(bitmasks()[INDEX]).crop_and_resize(ROIS, 28))
    polygons = polygon_mask_targets(POLYGONS, ROIS, INDEX, 28)
    assert torch.allclose(got.crop_ratios, polygons.crop_ratios, atol=0.03)


def test_bitmask_targets_do_not_depend_on_the_chunk(monkeypatch):
    whole = bitmask_mask_targets(bitmasks(), ROIS, INDEX, 28)
    monkeypatch.setattr(module, "_MAX_PIXELS", 1)
    for got, expected in zip(bitmask_mask_targets(bitmasks(), ROIS, INDEX, 28), whole, strict=True):
        assert torch.equal(got, expected)


def test_bitmask_without_pixels_has_a_target():
    got = bitmask_mask_targets(torch.zeros(1, 20, 20, dtype=torch.bool), ROIS[:1], torch.tensor([0]), 28)
    assert not got.masks.any()
    assert mask_iou_targets(torch.ones(1, 28, 28), got).tolist() == [0.0]


@pytest.mark.parametrize("function", [polygon_mask_targets, bitmask_mask_targets])
def test_no_rois_have_empty_targets(function):
    objects = POLYGONS if function is polygon_mask_targets else bitmasks()
    got = function(objects, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), 28)
    assert got.masks.shape == (0, 28, 28) and got.masks.dtype == torch.bool
    assert got.crop_ratios.shape == (0,)
    assert mask_iou_targets(torch.zeros(0, 28, 28), got).shape == (0,)


def test_mask_iou_target_counts_what_lies_outside_the_roi():
    masks = torch.zeros(3, 4, 4, dtype=torch.bool)
    masks[:, :2] = True  # 8 cells
    logits = torch.full((3, 4, 4), -1.0)
    logits[:, :, :2] = 1.0  # 8 cells, 4 of them right
    got = mask_iou_targets(logits, MaskTargets(masks, torch.tensor([1.0, 0.5, 0.25])))
    assert got.tolist() == pytest.approx([4 / 12, 4 / (8 + 16 - 4), 4 / (8 + 32 - 4)])
