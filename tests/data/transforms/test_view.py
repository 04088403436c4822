"""A view equals a crop of a canvas that OpenCV resizes."""

import cv2
import numpy as np
import pytest

from centermask_solo.data.transforms.view import View

FILL = (10.0, 20.0, 30.0)
HEIGHT, WIDTH = 37, 53


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def literal(image, rectangle, output_size, flipped, fill=FILL):
    """Crop the rectangle from a canvas around the image, then flip it, then resize it."""
    x0, y0, x1, y1 = rectangle
    around = 200
    canvas = np.empty((HEIGHT + 2 * around, WIDTH + 2 * around, 3), np.float32)
    canvas[:] = fill
    canvas[around : around + HEIGHT, around : around + WIDTH] = image
    cut = canvas[around + y0 : around + y1, around + x0 : around + x1]
    cut = np.ascontiguousarray(cut[:, ::-1] if flipped else cut)
    return cv2.resize(cut, output_size[::-1], interpolation=cv2.INTER_LINEAR)


RECTANGLES = [
    (0, 0, WIDTH, HEIGHT),
    (5, 3, 40, 30),
    (-20, -11, 100, 80),
    (-20, 5, 30, 30),
    (10, 20, 90, 50),
    (12, 8, 13, 9),
    (60, 40, 90, 70),
    (-90, 0, -50, 20),
]


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("output_size", [(64, 48), (9, 11), (1, 1)])
@pytest.mark.parametrize("rectangle", RECTANGLES)
def test_image(image, rectangle, output_size, flipped):
    view = View((HEIGHT, WIDTH), rectangle, output_size, flipped=flipped, fill=FILL)
    out = view.apply_image(image)
    assert out.dtype == np.float32 and out.flags.c_contiguous
    np.testing.assert_allclose(out, literal(image, rectangle, output_size, flipped), atol=1e-2)


@pytest.mark.parametrize("rectangle", RECTANGLES)
def test_mask(rectangle):
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    mask = (((y - 15) ** 2 + (x - 25) ** 2) < 150).astype(np.uint8)
    view = View((HEIGHT, WIDTH), rectangle, (64, 48), flipped=True, fill=FILL)
    out = view.apply_segmentation(mask)
    soft = literal(np.repeat(mask[..., None], 3, axis=2), rectangle, (64, 48), True, fill=(0, 0, 0))[..., 0]
    assert out.dtype == np.uint8
    clear = np.abs(soft - 0.5) > 1e-3
    np.testing.assert_array_equal(out[clear], soft[clear] > 0.5)


def test_coordinates_and_boxes():
    view = View((HEIGHT, WIDTH), (10, 5, 30, 15), (20, 60))
    np.testing.assert_allclose(view.apply_coords(np.array([[10, 5], [30, 15], [0, 0]])), [[0, 0], [60, 20], [-30, -10]])
    flipped = View((HEIGHT, WIDTH), (10, 5, 30, 15), (20, 60), flipped=True)
    np.testing.assert_allclose(flipped.apply_box(np.array([[10, 5, 15, 10]])), [[45, 0, 60, 10]])


@pytest.mark.parametrize("first_flipped", [False, True])
@pytest.mark.parametrize("second_flipped", [False, True])
def test_composed_views_equal_views_in_sequence(image, first_flipped, second_flipped):
    first = View((HEIGHT, WIDTH), (-7, -3, 60, 50), (53, 67), flipped=first_flipped, fill=FILL)
    second = View((53, 67), (4, 8, 40, 45), (37, 36), flipped=second_flipped)
    third = View((37, 36), (0, 0, 36, 37), (50, 40))
    one = first.then(second).then(third)
    expected = third.apply_image(second.apply_image(first.apply_image(image)))
    np.testing.assert_allclose(one.apply_image(image), expected, atol=1e-2)
    points = np.random.default_rng(1).uniform(0, 50, (9, 2))
    expected_points = third.apply_coords(second.apply_coords(first.apply_coords(points)))
    np.testing.assert_allclose(one.apply_coords(points), expected_points)
    assert (one.output_size, one.fill) == ((50, 40), FILL)


def test_fractional_rectangles_are_interpolated():
    """A rectangle that starts inside a pixel is sampled between its neighbors."""
    ramp = np.arange(8, dtype=np.float32)[None, :, None].repeat(4, axis=0)
    out = View((4, 8), (1.25, 0, 5.25, 4), (4, 4)).apply_image(ramp)
    np.testing.assert_allclose(out[..., 0], np.tile([1.25, 2.25, 3.25, 4.25], (4, 1)))
