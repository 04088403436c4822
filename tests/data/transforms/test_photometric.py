"""Photometric distortion: what is drawn, how often, and what it does to pixels."""

import colorsys

import numpy as np
import pytest

from centermask_solo.data.transforms.photometric import PhotometricDistortion

DRAWS = 1000


@pytest.fixture(autouse=True)
def seed():
    np.random.seed(0)  # noqa: NPY002  (the generator of Detectron2's augmentations)


def distortions(**options):
    return [PhotometricDistortion("RGB", **options).get_transform(np.zeros(0)) for _ in range(DRAWS)]


def test_changes_have_the_expected_frequency_and_range():
    drawn = distortions()
    expected = {
        "brightness": (0.0, -32, 32),
        "contrast": (1.0, 0.5, 1.5),
        "saturation": (1.0, 0.5, 1.5),
        "hue": (0.0, -18, 18),
    }
    for name, (neutral, low, high) in expected.items():
        changed = np.array([getattr(t, name) for t in drawn if getattr(t, name) != neutral])
        assert 0.44 * DRAWS < len(changed) < 0.56 * DRAWS
        assert low <= changed.min() < low + 0.05 * (high - low) and high - 0.05 * (high - low) < changed.max() <= high
    assert (
        30 < sum((t.brightness, t.contrast, t.saturation, t.hue) == (0, 1, 1, 0) for t in drawn) < 100
    )  # one out of 16


def distort(image, image_format="RGB", **changes):
    made = PhotometricDistortion(image_format).get_transform(image)
    values = {"brightness": 0.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0, **changes}
    vars(made).update(values)
    return made.apply_image(image)


def test_brightness_and_contrast_are_not_clipped():
    image = np.array([[[0, 100, 255]]], dtype=np.uint8)
    np.testing.assert_allclose(distort(image, brightness=-20.5, contrast=1.5), [[[-30.75, 119.25, 351.75]]])
    assert distort(image).dtype == np.float32
    np.testing.assert_array_equal(distort(image), image)


@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
def test_saturation_and_hue(image_format):
    rgb = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    image = rgb if image_format == "RGB" else rgb[..., ::-1]
    out = distort(image, image_format, saturation=0.7, hue=-15.0)
    out = out if image_format == "RGB" else out[..., ::-1]
    for pixel, found in zip(rgb.reshape(-1, 3) / 255, out.reshape(-1, 3) / 255, strict=True):
        h, s, v = colorsys.rgb_to_hsv(*pixel)
        np.testing.assert_allclose(found, colorsys.hsv_to_rgb((h - 15 / 360) % 1, 0.7 * s, v), atol=1e-4)


def test_order_of_contrast_and_saturation_does_not_matter():
    """Not even for values below 0, which is why only one order is implemented."""
    image = np.array([[[-20, 30, 60], [10, 60, 90]]], dtype=np.float32)
    both = distort(image, contrast=0.5, saturation=1.4, hue=7.0)
    np.testing.assert_allclose(both, 0.5 * distort(image, saturation=1.4, hue=7.0), atol=1e-4)
    assert both.min() < 0
