from collections import Counter

import numpy as np
import pytest

from centermask_solo.data.formats.objects import AnnotatedImage, Object, mask_of
from centermask_solo.data.formats.yolo import read_yolo, yolo_lines, yolo_of_image
from centermask_solo.structures.rle_codes import code_of


def test_a_line_is_the_class_and_the_share_of_each_side():
    assert yolo_lines([[[0, 0, 50, 0, 50, 25.5]], []], [7, 1], 100, 50) == ["7 0 0 0.5 0 0.5 0.51"]


def test_parts_become_one_polygon():
    (line,) = yolo_lines([[[0, 0, 4, 0, 4, 4, 0, 4], [6, 0, 9, 0, 9, 4, 6, 4]]], [0], 10, 10)
    assert line.startswith("0 0 0 0.4 0 0.6 0 0.9 0") and len(line.split()) == 1 + 2 * 10


def test_polygons_end_at_the_border():
    assert yolo_lines([[[-50, 0, 50, 0, 50, 50, -50, 50]], [[-9, 0, -3, 0, -3, 9]]], [0, 1], 100, 50) == [
        "0 0 0 0.5 0 0.5 1 0 1"
    ]


@pytest.mark.parametrize(
    "polygons",
    [
        [[-40, 50, 60, 10, 60, 90]],
        [[-40, 50.3, 61.2, 10.7, 130.1, 90]],
        [[-9, 20, 60, -30, 140, 50, 60, 103], [50, 50, 120, 60, 120, 70]],
    ],
)
def test_objects_have_their_pixels_in_the_image(polygons):
    image, lost = AnnotatedImage("a.png", 100, 100, [Object("x", polygons)], ""), Counter()
    (found,) = read_yolo("\n".join(yolo_of_image(image, {"x": 0}, lost)), "", ["x"], 100, 100, lost)
    assert np.array_equal(mask_of(found.segmentation, 100, 100), mask_of(polygons, 100, 100))


def test_objects_without_a_pixel_are_counted():
    beside, empty = [[-9, 0, -3, 0, -3, 9]], code_of({"size": [50, 100], "counts": [5000]}, 50, 100)
    image, lost = AnnotatedImage("a.png", 100, 50, [Object("x", beside), Object("x", empty)], ""), Counter()
    assert yolo_of_image(image, {"x": 0}, lost) == [] and +lost == {"objects without a pixel (left out)": 2}


def test_lines_that_leave_the_image():
    lost = Counter()
    lines = "0 -0.5 0 0.5 0 0.5 1 -0.5 1\n0 0 0.5 0.5 1\n0 1.2 1.2 1.3 1.2 1.3 1.3\n0 1.5 0.5 0.5 0.5"
    polygon, box = read_yolo(lines, "a.txt", ["x"], 100, 50, lost)
    assert polygon.segmentation == [[0, 0, 50, 0, 50, 50, 0, 50]] and box.box == [0, 0, 25, 50]
    assert lost == {"objects outside of the image (left out)": 2}
