"""Parts of masks, their polygons, and codes that are decoded in their boxes only."""

import numpy as np
import pytest
from pycocotools import mask as rle

from centermask_solo.structures.components import components, polygons
from centermask_solo.structures.rle_codes import EMPTY, Window, decode_window, paste, tight


def random_masks(count, seed):
    generator = np.random.default_rng(seed)
    for i in range(count):
        height, width = generator.integers(1, 30, 2)
        mask = np.zeros((height, width), bool)
        y0, x0 = generator.integers(0, height), generator.integers(0, width)
        y1, x1 = generator.integers(y0, height) + 1, generator.integers(x0, width) + 1
        if i % 3 == 0:
            y0, y1 = 0, height  # runs go on in the next column
        mask[y0:y1, x0:x1] = generator.random((y1 - y0, x1 - x0)) < generator.choice([0.0, 0.1, 0.5, 0.9, 1.0])
        yield mask


@pytest.mark.parametrize("as_text", [True, False])
def test_codes_are_decoded_as_pycocotools_does(as_text):
    for mask in random_masks(300, 0):
        code = rle.encode(np.asfortranarray(mask.view(np.uint8)))
        code["counts"] = code["counts"].decode() if as_text else code["counts"]
        window, found = decode_window(code), np.zeros_like(mask)
        paste(found, window, True)
        assert np.array_equal(found, mask)
        expected = tight(Window(0, 0, mask))
        assert window[:2] == expected[:2] and window.pixels.shape == expected.pixels.shape


def test_large_codes_are_decoded_in_their_boxes():
    mask = np.zeros((3000, 4000), np.uint8)
    mask[2990:2999, 3900:3990] = 1
    window = decode_window(rle.encode(np.asfortranarray(mask)))
    assert window[:2] == (3900, 2990) and window.pixels.shape == (9, 90) and window.pixels.all()


def test_polygons_enclose_the_pixels_holes_left_open():
    for mask in random_masks(60, 1):
        found = polygons(Window(3, 5, mask))
        full = np.zeros((40, 40), bool)
        full[5 : 5 + mask.shape[0], 3 : 3 + mask.shape[1]] = mask
        assert len(found) == len(components(Window(3, 5, mask)))
        drawn = rle.decode(rle.merge(rle.frPyObjects(found, 40, 40))).astype(bool) if found else np.zeros_like(full)
        assert np.array_equal(drawn, full)


def test_nothing():
    assert components(EMPTY) == polygons(EMPTY) == [] and tight(Window(1, 1, np.zeros((3, 3), bool))) == EMPTY
