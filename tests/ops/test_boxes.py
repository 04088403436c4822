import math

import pytest
import torch

from centermask_solo.ops.boxes import assign_levels_by_area_ratio, level_locations


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
