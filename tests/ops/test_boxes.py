import math

import pytest
import torch

from centermask_solo.ops.boxes import (
    assign_levels_by_area_ratio,
    inside_boxes,
    level_locations,
    pairwise_intersections,
    pairwise_iou,
)
from tests.oracles import ops as oracles


def test_locations_are_the_cells_middles_row_by_row():
    got = level_locations((2, 3), 8, torch.device("cpu"))
    assert got.tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12]]


def test_locations_of_an_odd_stride_round_down():
    assert level_locations((1, 2), 5, torch.device("cpu")).tolist() == [[2, 2], [7, 2]]


@pytest.mark.parametrize(
    ("share", "level"),
    [
        (0.0, 3),  # no area
        (1e-12, 3),
        (0.25, 3),  # a quarter exactly still belongs below
        (math.nextafter(0.25, 1), 4),
        (0.5, 4),
        (math.nextafter(0.5, 1), 5),
        (1.0, 5),
        (7.5, 5),  # larger than the image
        (math.inf, 5),
        (math.nan, 3),
        (-1.0, 3),  # an inverted box
    ],
)
def test_level_at_each_boundary(share, level):
    image_area = 640.0 * 480.0
    got = assign_levels_by_area_ratio(
        torch.tensor([share * image_area], dtype=torch.float64), torch.tensor([image_area]), 3, 5
    )
    assert got.tolist() == [level]
    assert got.dtype == torch.int64


@pytest.mark.parametrize(("min_level", "max_level"), [(3, 5), (2, 5), (3, 7), (4, 4)])
def test_level_is_the_papers_formula(min_level, max_level):
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(2000, generator=generator, dtype=torch.float64) ** 4 * 3e5
    images = torch.rand(2000, generator=generator, dtype=torch.float64) * 2e5 + 1e5
    formula = (max_level - (images / boxes).log2()).ceil().clamp(min_level, max_level).long()
    assert torch.equal(assign_levels_by_area_ratio(boxes, images, min_level, max_level), formula)
    assert len(formula.unique()) == max_level - min_level + 1


def test_no_boxes_have_no_levels():
    assert assign_levels_by_area_ratio(torch.zeros(0), torch.zeros(0), 3, 5).shape == (0,)


def test_overlaps_of_each_two_boxes():
    rng = torch.Generator().manual_seed(0)
    corners = torch.randint(0, 9, (2, 7, 2), generator=rng)
    boxes = torch.cat([corners, corners + torch.randint(0, 6, (2, 7, 2), generator=rng)], dim=2).float()
    others = boxes[:, :4] + 1
    expected = [
        [[oracles.box_iou(a, b) for b in image[1]] for a in image[0]]
        for image in zip(boxes.tolist(), others.tolist(), strict=True)
    ]
    torch.testing.assert_close(pairwise_iou(boxes, others), torch.tensor(expected))
    assert pairwise_iou(boxes[0, :0], others[0]).shape == (0, 4)
    area = torch.tensor([[0.0, 0, 3, 2]])
    assert pairwise_intersections(area, torch.tensor([[1.0, 1, 9, 9], [3.0, 0, 4, 1]])).tolist() == [[2, 0]]


def test_boxes_without_area_overlap_nothing():
    point = torch.tensor([[2.0, 2, 2, 2]])
    assert pairwise_iou(point, torch.cat([point, torch.tensor([[0.0, 0, 9, 9]])])).tolist() == [[0, 0]]


def test_pixels_of_boxes_and_their_border():
    """Columns from 0.25 * 8 - 1 = 1, included, to 0.5 * 8 + 1 = 5, not included; rows from 0.4 to 4.6."""
    box = torch.tensor([[0.25, 1.4 / 9, 0.5, 3.6 / 9]])
    expected = torch.zeros(9, 8, dtype=torch.bool)
    expected[1:5, 1:5] = True
    assert torch.equal(inside_boxes(box, (9, 8), 1.0)[0], expected)
    assert torch.equal(inside_boxes(box[:, [2, 3, 0, 1]], (9, 8), 1.0)[0], expected)
    assert inside_boxes(torch.tensor([[-3.0, -3, 5, 5], [2.0, 2, 3, 3]]), (9, 8), 1.0).flatten(1).sum(1).tolist() == [
        72,
        0,
    ]
