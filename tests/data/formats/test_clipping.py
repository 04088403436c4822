"""Shapes are cut off at the border of the image, whatever their form, and keep what is inside."""

import numpy as np
import pytest

from centermask_solo.data.formats.clipping import clip_box, clip_polygon

WIDTH, HEIGHT = 50, 40


def inside(polygon):
    """Which centers of pixels of the image a polygon encloses, by the even-odd rule."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    found = np.zeros((HEIGHT, WIDTH), bool)
    corners = np.reshape(polygon, (-1, 2))
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y1 != y2:
            found ^= ((y1 <= y) != (y2 <= y)) & (x < x1 + (y - y1) / (y2 - y1) * (x2 - x1))
    return found


@pytest.mark.parametrize("corners", [3, 4, 5, 8])
def test_polygons_keep_what_is_inside(corners):
    """Also those that cross themselves, or are in several parts afterwards."""
    for seed in range(50):
        points = np.random.default_rng([corners, seed]).uniform(-WIDTH, 2 * WIDTH, 2 * corners)
        found = clip_polygon(points.tolist(), WIDTH, HEIGHT)
        assert np.array_equal(inside(found) if found else np.zeros((HEIGHT, WIDTH), bool), inside(points))
        xy = np.reshape(found, (-1, 2))
        assert (xy >= 0).all() and (xy <= [WIDTH, HEIGHT]).all()


def test_polygons_inside_are_what_they_were():
    whole = [0, 0, 50, 0, 50, 40, 0, 40]
    assert clip_polygon(whole, WIDTH, HEIGHT) == whole


@pytest.mark.parametrize(
    "polygon",
    [[-9, 1, -3, 1, -3, 9], [-9, -9, 0, -9, 0, 50, -9, 50], [-10, -10, 20, -10, 20, -5, -5, -5, -5, 20, -10, 20]],
)
def test_nothing_remains_of_polygons_outside(polygon):
    """Not even of those that touch the border, or go around a corner of the image."""
    assert clip_polygon(polygon, WIDTH, HEIGHT) == []


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4]),
        ([-2, -3, 10, 10], [0, 0, 8, 7]),
        ([45, 35, 10, 10], [45, 35, 5, 5]),
        ([-9, 0, 9, 9], []),
        ([0, 40, 9, 9], []),
    ],
)
def test_boxes(box, expected):
    assert clip_box(box, WIDTH, HEIGHT) == expected
