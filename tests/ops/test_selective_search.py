"""Selective search: its parts by hand, and that it finds what stands out."""

import sys

import cv2
import numpy as np
import pytest

from centermask_solo.ops import selective_search as module
from centermask_solo.ops.selective_search import Segments, describe_pixels, describe_segments, group
from centermask_solo.utils.errors import MissingPackageError

# Two columns of three segments: 0 left, 1 in the middle, 2 right, each 4 rows high and 4, 2 and 2 columns wide
LABELS = np.repeat([[0, 0, 0, 0, 1, 1, 2, 2]], 4, axis=0)


def picture(height=90, width=120):
    """A green rectangle on dark gray."""
    image = np.full((height, width, 3), 30, np.uint8)
    image[20:60, 30:80] = (90, 200, 40)
    return image


def test_segments_of_a_small_image():
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, 4:6] = (255, 128, 10)
    pixels[:2, 6:] = 255
    segments = describe_segments(describe_pixels(pixels), LABELS)
    assert segments.boxes.tolist() == [[0, 0, 4, 4], [4, 0, 6, 4], [6, 0, 8, 4]]
    assert segments.sizes.tolist() == [16, 8, 8]
    assert segments.neighbors == [{1}, {0, 2}, {1}]
    colors = segments.colors.reshape(3, 3, 25)
    np.testing.assert_allclose(segments.colors.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(colors[0, :, 0], 1 / 3, rtol=1e-6)
    assert [int(x.argmax()) for x in colors[1]] == [24, 12, 0]  # of 25 bins, each 10.24 wide
    np.testing.assert_allclose(colors[2, 0, [0, 24]], 1 / 6, rtol=1e-6)
    np.testing.assert_allclose(segments.textures.sum(axis=1), 1, rtol=1e-6)


def test_texture_is_the_direction_in_which_brightness_rises():
    ramp = np.repeat(np.arange(0, 240, 24, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(10, axis=0)
    bins = describe_pixels(ramp).textures.reshape(10, 10, 8, 3)[5, 5, :, 0] % module.TEXTURE_BINS
    assert bins[0] == bins.max() > 0 == bins[4]  # to the right, not to the left
    assert bins[2] == bins[6] == 0 and bins[1] == bins[7] > 0


def toy(colors):
    textures = np.zeros((3, 240), np.float32)
    textures[:, 0] = 1  # the same everywhere
    histograms = np.zeros((3, 75), np.float32)
    for row, bin_of_color in zip(histograms, colors, strict=True):
        row[bin_of_color] = 1
    boxes = np.array([[0, 0, 4, 4], [4, 0, 6, 4], [6, 0, 8, 4]])
    return Segments(boxes, np.array([16, 8, 8], np.float32), histograms, textures, [{1}, {0, 2}, {1}])


def test_groups_form_in_the_order_of_similarity():
    """Without colors 1 and 2 go first, since size favors small ones: 1 + 1 - 16/32 + 1 against 1 + 1 - 24/32 + 1."""
    whole = [0, 0, 8, 4]
    start = [[0, 0, 4, 4], [4, 0, 6, 4], [6, 0, 8, 4]]
    assert [x.tolist() for x in group(toy([3, 3, 9]), 32, False)] == [*start, [4, 0, 8, 4], whole]
    assert [x.tolist() for x in group(toy([3, 3, 9]), 32, True)] == [*start, [0, 0, 6, 4], whole]  # 0 and 1 look alike


def test_the_histogram_of_a_group_is_weighted_by_size():
    """Of 16 pixels in bin 3 and 8 in bin 9: 2/3 and 1/3, so the group shares 1/3 with what is in bin 9 only."""
    segments = toy([3, 9, 9])
    segments.sizes[:] = 16, 8, 64
    segments.neighbors[:] = [{1, 2}, {0}, {0}]  # 0 joins 1, the smaller one
    seen = []
    minimum = np.minimum

    def spy(a, b):
        result = minimum(a, b)
        if result.ndim == 2 and result.shape[1] == 315:
            seen.append(float(result[0, 240:].sum()))
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.np, "minimum", spy)
        assert len(list(group(segments, 1000, True))) == 5
    assert seen[-1] == pytest.approx(1 / 3)


@pytest.mark.parametrize("mode", ["fast", "single"])
def test_the_rectangle_is_found(mode):
    pytest.importorskip("skimage")
    boxes = module.group_segments(picture(), mode)
    assert boxes.dtype == np.float32 and len(np.unique(boxes, axis=0)) == len(boxes)
    assert np.abs(boxes - [30, 20, 80, 60]).max(axis=1).min() <= 2
    assert (boxes[:, 2:] - boxes[:, :2] >= module.MIN_SIDE).all() and (boxes >= 0).all()
    assert (boxes <= [120, 90, 120, 90]).all()
    np.testing.assert_array_equal(boxes, module.group_segments(picture(), mode))


def test_an_image_of_one_color_is_one_box():
    pytest.importorskip("skimage")
    boxes = module.group_segments(np.full((40, 50, 3), 77, np.uint8))
    assert boxes.tolist() == [[0, 0, 50, 40]]


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (3, 200)])
def test_a_tiny_image_has_no_boxes(size):
    pytest.importorskip("skimage")
    assert module.group_segments(np.zeros((*size, 3), np.uint8)).shape == (0, 4)


@pytest.mark.skipif(not module.uses_opencv(), reason="needs OpenCV's contrib build")
@pytest.mark.parametrize("mode", ["fast", "single"])
def test_opencv_is_used_where_it_can(mode):
    boxes = module.selective_search(picture(), mode)
    assert np.abs(boxes - [30, 20, 80, 60]).max(axis=1).min() <= 2
    assert f"OpenCV {cv2.__version__}" in module.describe_search(mode)


def test_without_any_implementation_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(module, "uses_opencv", lambda: False)
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(
        MissingPackageError, match=r"scikit-image, or OpenCV's contrib build: run 'pip install"
    ) as error:
        module.selective_search(picture())
    assert "\n" not in str(error.value)
