"""What callers give a predictor for an image becomes that image, or an error of one line."""

import numpy as np
import pytest
import torch
from PIL import Image

from centermask_solo.data.input_images import as_bgr
from centermask_solo.utils.errors import DataError

COLORS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
COLORS[0, 0] = 255
GRAY = COLORS[..., 0]


@pytest.mark.parametrize(
    "image, expected",
    [
        (COLORS, COLORS),
        (COLORS[:, ::-1], COLORS[:, ::-1]),
        (GRAY, np.stack([GRAY] * 3, -1)),
        (GRAY[..., None], np.stack([GRAY] * 3, -1)),
        (np.dstack([COLORS, GRAY]), COLORS),
        (COLORS.astype(np.uint16) * 257, COLORS),
        (COLORS.astype(np.float32) / 255, COLORS),
        (COLORS.astype(np.float64), COLORS),
        (COLORS.astype(np.int64), COLORS),
        (GRAY > 99, np.stack([(GRAY > 99) * 255] * 3, -1)),
        (Image.fromarray(COLORS), COLORS[..., ::-1]),
        (Image.fromarray(GRAY), np.stack([GRAY] * 3, -1)),
        (Image.fromarray(np.dstack([COLORS, GRAY])), COLORS[..., ::-1]),
        (Image.fromarray(GRAY.astype(np.uint16) * 257), np.stack([GRAY] * 3, -1)),
        (COLORS[:1], COLORS[:1]),
    ],
)
def test_images(image, expected):
    found = as_bgr(image)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def test_paths(tmp_path):
    Image.fromarray(COLORS).save(tmp_path / "a.png")
    for path in (tmp_path / "a.png", str(tmp_path / "a.png")):
        np.testing.assert_array_equal(as_bgr(path), COLORS[..., ::-1])
    with pytest.raises(DataError, match=r"a.png is too large: .* INPUT.MAX_IMAGE_PIXELS 35"):
        as_bgr(path, max_pixels=34)


GIVE = r"give an array \(H, W, 3\) in BGR order as of cv2.imread, or a path"


@pytest.mark.parametrize(
    "image, message",
    [
        (None, f"the image is None, as cv2.imread returns it for a file that it cannot read: {GIVE}"),
        ("absent.png", "there is no image absent.png"),
        (COLORS.transpose(2, 0, 1), rf"an array of 3 x 5 x 7, its channels first: {GIVE}; image.transpose\(1, 2, 0\)"),
        (torch.from_numpy(COLORS), rf"is a torch.Tensor: {GIVE}; image.permute\(1, 2, 0\).cpu\(\).numpy\(\) is one"),
        ([COLORS], f"is a list: {GIVE}$"),
        (b"bytes", f"is a bytes: {GIVE}$"),
        (COLORS[None], f"an array of 1 x 5 x 7 x 3: {GIVE}"),
        (COLORS[..., :2], f"an array of 5 x 7 x 2: {GIVE}"),
        (GRAY[0], f"an array of 7: {GIVE}"),
        (np.array(3), f"an array of no dimensions: {GIVE}"),
        (np.zeros((0, 7, 3), np.uint8), f"an array of 0 x 7 x 3, which has no pixels: {GIVE}"),
        (np.array([["a"]]), f"an array of <U1: {GIVE}, of numbers"),
        (COLORS.astype(complex), f"an array of complex128: {GIVE}, of numbers"),
    ],
)
def test_what_is_no_image(image, message):
    with pytest.raises(DataError, match=message) as caught:
        as_bgr(image)
    assert "\n" not in str(caught.value)
