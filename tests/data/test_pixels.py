"""Pixels of any type become 8 bits by one rule."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from centermask_solo.data.pixels import orient, to_8_bits

INF, NAN = np.inf, np.nan


@pytest.mark.parametrize(
    "dtype, values, expected",
    [
        ("uint8", [0, 7, 255], [0, 7, 255]),
        ("bool", [False, True], [0, 255]),
        ("uint16", [0, 257, 65535], [0, 1, 255]),
        ("uint16", [0, 16, 4095], [0, 1, 255]),  # 12 bits
        ("uint16", [0, 803, 2000], [0, 50, 125]),  # 12 bits, though none is white
        ("uint16", [0, 4, 1023], [0, 1, 255]),
        ("uint16", [0, 64, 16383], [0, 1, 255]),
        ("uint16", [0, 7, 200], [0, 7, 200]),  # 8 bits
        (">u2", [0, 257, 65535], [0, 1, 255]),
        ("int32", [0, 50_000, 100_000], [0, 128, 255]),
        ("int16", [-1000, 0, 3000], [0, 64, 255]),
        ("int64", [3, 3], [3, 3]),
        ("float32", [0, 0.2, 1], [0, 51, 255]),
        ("float64", [0, 7.4, 255], [0, 7, 255]),
        ("float16", [0, 4096, 16376], [0, 64, 255]),
        ("float32", [-1, 0, 1], [0, 128, 255]),
        ("float32", [NAN, -INF, INF, 0.2], [0, 0, 255, 51]),
        ("float32", [NAN, NAN], [0, 0]),
        ("float32", [-5, -5], [0, 0]),
        ("float32", [0, 0], [0, 0]),
    ],
)
def test_range(dtype, values, expected):
    found = to_8_bits(np.array(values, dtype=dtype))
    assert found.dtype == np.uint8
    assert found.tolist() == expected


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_that_of_pillow(orientation):
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    image = Image.fromarray(pixels)
    image.getexif()[274] = orientation
    assert np.array_equal(orient(pixels, orientation), np.asarray(ImageOps.exif_transpose(image)))
