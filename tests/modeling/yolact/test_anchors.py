from __future__ import annotations

import math

import pytest
import torch

from centermask_solo.modeling.yolact.anchors import cell_shapes, grid_anchors, level_shapes
from centermask_solo.utils.errors import ConfigError

RATIOS = [1.0, 2.0, 0.5]


def test_shapes_of_a_cell():
    """Aspect ratios of the paper: width over height 1, 1/2, 2."""
    root = math.sqrt(2)
    expected = torch.tensor([[24, 24], [24 / root, 24 * root], [24 * root, 24 / root]], dtype=torch.float64)
    torch.testing.assert_close(cell_shapes([24], RATIOS, square=False), expected)


def test_square_anchors_are_as_high_as_wide():
    shapes = cell_shapes([24], RATIOS, square=True)
    torch.testing.assert_close(shapes[:, 0], cell_shapes([24], RATIOS, square=False)[:, 0])
    assert torch.equal(shapes[:, 0], shapes[:, 1])


def test_scales_come_before_ratios():
    shapes = cell_shapes([10, 20], RATIOS, square=False)
    torch.testing.assert_close(shapes.prod(dim=1), torch.tensor([100.0] * 3 + [400.0] * 3).double())


def test_cells_divide_the_input_evenly():
    shapes = torch.tensor([[[55.0, 110.0]], [[11.0, 11.0]]])
    anchors = grid_anchors([(2, 3), (1, 1)], shapes / 550)
    centers = (anchors[:, :2] + anchors[:, 2:]) / 2
    expected = [[i / 6, j / 4] for j in (1, 3) for i in (1, 3, 5)] + [[0.5, 0.5]]
    torch.testing.assert_close(centers, torch.tensor(expected))
    sizes = anchors[:, 2:] - anchors[:, :2]
    torch.testing.assert_close(sizes, torch.tensor([[0.1, 0.2]] * 6 + [[0.02, 0.02]]))
    assert grid_anchors([(3, 3)], torch.tensor([[[400.0, 400.0]]]) / 550).min() < 0  # not clipped
    assert anchors.dtype == torch.float32


@pytest.mark.parametrize(
    ("size", "anchors"), [(400, 10_077), (550, 19_248), (700, 30_963)], ids=["im400", "im550", "im700"]
)
def test_numbers_of_the_published_models(size, anchors):
    levels, side = [], -(-size // 8)
    for _ in range(5):
        levels.append((side, side))
        side = -(-side // 2)
    for scales in ([[24]], [[24, 30, 38]]):
        shapes = level_shapes(scales, [RATIOS], 5, square=False)
        assert len(grid_anchors(levels, shapes / size)) == anchors * len(scales[0])


@pytest.mark.parametrize(
    ("sizes", "ratios", "message"),
    [
        ([[24], [48]], [RATIOS], "SIZES must have a list for each of the 5 levels, or one for all, but has 2"),
        ([[24]], [RATIOS] * 4, "ASPECT_RATIOS must have a list for each of the 5 levels"),
        ([[24]] * 4 + [[1, 2]], [RATIOS], r"the same number of anchors .*, not \[3, 3, 3, 3, 6\]"),
        ([[24]], [[]], r"at least one, not \[0, 0, 0, 0, 0\]"),
        ([], [RATIOS], "SIZES must have .* but has 0"),
    ],
)
def test_lists_that_do_not_fit_are_errors(sizes, ratios, message):
    with pytest.raises(ConfigError, match=message):
        level_shapes(sizes, ratios, 5, square=False)
