import numpy as np
import pytest
from pycocotools import mask as rle
from scipy import ndimage

from centermask_solo.structures.outlines import join_polygons, trace_outlines


def fill(polygon, shape):
    return rle.decode(rle.frPyObjects([polygon], *shape))[:, :, 0].astype(int)


@pytest.mark.parametrize("share", [0.1, 0.4, 0.6, 0.9, 1.0])
def test_a_mask_is_its_parts_minus_its_holes(share):
    random = np.random.default_rng(0)
    for _ in range(100):
        mask = random.random(random.integers(1, 12, 2)) < share
        found = trace_outlines(mask)
        total = sum((fill(x, mask.shape) for x in found.parts), np.zeros(mask.shape, int))
        assert np.array_equal(total - sum(fill(x, mask.shape) for x in found.holes), mask)
        assert len(found.parts) == ndimage.label(mask)[1]
        if mask.any():
            assert np.array_equal(fill(join_polygons([*found.parts, *found.holes]), mask.shape), mask)


def test_pixels_that_touch_by_a_corner_are_parts_of_their_own():
    assert sorted(trace_outlines(np.eye(2), left=10, top=20).parts) == [
        [10, 20, 11, 20, 11, 21, 10, 21],
        [11, 21, 12, 21, 12, 22, 11, 22],
    ]


def test_straight_sides_have_no_corners_between():
    assert trace_outlines(np.ones((5, 7))).parts == [[0, 0, 7, 0, 7, 5, 0, 5]]
    assert trace_outlines(np.zeros((5, 7))) == ([], [])


def test_bridges_have_no_area_and_connect_close_corners():
    first, second = [0, 0, 4, 0, 4, 4, 0, 4], [6, 0, 9, 0, 9, 4, 6, 4]
    joined = join_polygons([first, second])
    assert joined == [0, 0, 4, 0, 6, 0, 9, 0, 9, 4, 6, 4, 6, 0, 4, 0, 4, 4, 0, 4]
    assert np.array_equal(fill(joined, (5, 10)), fill(first, (5, 10)) + fill(second, (5, 10)))
    assert join_polygons([first]) == first
