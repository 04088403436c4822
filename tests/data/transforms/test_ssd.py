"""YOLACT's augmentation: what is drawn, how often, and what it does to pixels."""

import colorsys

import detectron2.data.transforms as T
import numpy as np
import pytest
from detectron2.config import get_cfg

from centermask_solo import add_centermask_solo_config
from centermask_solo.data.transforms.ssd import (
    FILL_RGB,
    OneView,
    PhotometricDistortion,
    RandomCropKeepingCentres,
    RandomExpand,
    RandomMirror,
    ResizeTo,
    build_ssd_augmentations,
)

SIZE = (60, 80)
NOTHING = np.zeros((0, 4))
DRAWS = 1000


@pytest.fixture(autouse=True)
def seed():
    np.random.seed(0)  # noqa: NPY002  (the generator of Detectron2's augmentations)


def views(augmentation, boxes=NOTHING, size=SIZE):
    return [augmentation.choose(size, boxes) for _ in range(DRAWS)]


def test_expansion():
    chosen = views(RandomExpand(4.0, (1.0, 2.0, 3.0)))
    expanded = [v for v in chosen if v.output_size != SIZE]
    assert 0.45 * DRAWS < len(expanded) < 0.55 * DRAWS
    ratios = [v.output_size[0] / SIZE[0] for v in expanded]
    assert 1 <= min(ratios) < 1.1 and 3.9 < max(ratios) <= 4 and 2.4 < np.mean(ratios) < 2.6
    for v in expanded:
        x0, y0, x1, y1 = v.rectangle
        assert x0 <= 0 and y0 <= 0 and x1 >= SIZE[1] and y1 >= SIZE[0]
        assert (y1 - y0, x1 - x0) == v.output_size and v.fill == (1, 2, 3)
    image = np.full((*SIZE, 3), 200, np.uint8)
    out = expanded[0].apply_image(image)
    assert (out == 200).all(axis=2).sum() == SIZE[0] * SIZE[1]
    assert (out == (1, 2, 3)).all(axis=2).sum() == out.shape[0] * out.shape[1] - SIZE[0] * SIZE[1]


def test_crops():
    boxes = np.array([[10.0, 10.0, 30.0, 30.0], [60.0, 40.0, 80.0, 60.0]])
    chosen = views(RandomCropKeepingCentres(0.3), boxes)
    cropped = [v for v in chosen if v.output_size != SIZE]
    # one of six modes leaves the image whole; a mode of crops that finds none, which is rare here, draws again
    assert 0.78 * DRAWS < len(cropped) < 0.88 * DRAWS
    kept = np.zeros(2)
    for v in cropped:
        x0, y0, x1, y1 = v.rectangle
        assert 0 <= x0 < x1 <= SIZE[1] and 0 <= y0 < y1 <= SIZE[0]
        height, width = v.output_size
        assert (height, width) == (y1 - y0, x1 - x0)
        assert height >= int(0.3 * SIZE[0]) and width >= int(0.3 * SIZE[1])
        assert height + 1 >= 0.5 * (width - 1) and height - 1 <= 2 * (width + 1)
        inside = [x0 < x < x1 and y0 < y < y1 for x, y in ((20, 20), (70, 50))]
        assert any(inside)
        kept += inside
    assert (kept > DRAWS / 10).all() and kept.sum() < 2 * len(cropped)


def test_crops_without_objects_and_of_a_single_pixel():
    chosen = views(RandomCropKeepingCentres(0.3))
    assert 0.78 * DRAWS < sum(v.output_size != SIZE for v in chosen) < 0.88 * DRAWS
    one = np.array([[0.0, 0.0, 1.0, 1.0]])
    assert {v.output_size for v in views(RandomCropKeepingCentres(0.3), one, (1, 1))[:20]} == {(1, 1)}


def test_a_centre_that_no_crop_can_hold_leaves_the_image_whole():
    corner = np.array([[-2.0, -2.0, 2.0, 2.0]])
    assert all(RandomCropKeepingCentres(0.3).choose(SIZE, corner).output_size == SIZE for _ in range(20))


def test_mirror_and_resize():
    chosen = views(RandomMirror())
    assert 0.45 * DRAWS < sum(v.flipped for v in chosen) < 0.55 * DRAWS
    assert ResizeTo((5, 7)).choose(SIZE, NOTHING).output_size == (5, 7)


def test_one_view_tells_each_where_the_objects_are_by_then():
    """The crop keeps the centre of the only object, wherever the expansion has put it."""
    box = np.array([[36.0, 26.0, 44.0, 34.0]])
    one = OneView([RandomExpand(4.0, (0.0,)), RandomCropKeepingCentres(0.3), RandomMirror(), ResizeTo((50, 50))])
    for v in views(one, box):
        x0, y0, x1, y1 = v.apply_box(box)[0]
        assert 0 < x0 + x1 < 100 and 0 < y0 + y1 < 100 and v.output_size == (50, 50)


def test_as_augmentations_of_detectron2():
    image = np.zeros((*SIZE, 3), np.uint8)
    for augmentation in (RandomExpand(2.0, (0.0,)), RandomCropKeepingCentres(0.5), RandomMirror(), ResizeTo((9, 9))):
        aug_input = T.AugInput(image, boxes=np.array([[0.0, 0.0, 80.0, 60.0]]))
        T.AugmentationList([augmentation])(aug_input)
        assert aug_input.image.shape[2] == 3
        T.AugmentationList([augmentation])(T.AugInput(image))


def distortions(**options):
    return [PhotometricDistortion("RGB", **options).get_transform(np.zeros(0)) for _ in range(DRAWS)]


def test_colours_are_drawn_as_often_and_as_far():
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
    assert 30 < sum((t.brightness, t.contrast, t.saturation, t.hue) == (0, 1, 1, 0) for t in drawn) < 100  # 1 of 16


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


def test_contrast_before_or_after_the_saturation_is_the_same():
    """Also of values below 0: the reason why there is one order only."""
    image = np.array([[[-20, 30, 60], [10, 60, 90]]], dtype=np.float32)
    both = distort(image, contrast=0.5, saturation=1.4, hue=7.0)
    np.testing.assert_allclose(both, 0.5 * distort(image, saturation=1.4, hue=7.0), atol=1e-4)
    assert both.min() < 0


def ssd_cfg(*overrides):
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.MODEL.META_ARCHITECTURE, cfg.INPUT.AUGMENTATION, cfg.INPUT.FORMAT = "YOLACT", "ssd", "RGB"
    cfg.merge_from_list(list(overrides))
    return cfg


def test_built_from_a_config():
    colours, one = build_ssd_augmentations(ssd_cfg("INPUT.FORMAT", "BGR", "MODEL.YOLACT.INPUT_SIZE", 96))
    assert isinstance(colours, PhotometricDistortion) and colours.image_format == "BGR"
    expand, crop, mirror, resize = one.augmentations
    assert (expand.max_ratio, expand.fill) == (4.0, FILL_RGB[::-1])
    assert (crop.min_size, resize.size) == (0.3, (96, 96)) and isinstance(mirror, RandomMirror)
    off = ("INPUT.SSD.PHOTOMETRIC", False, "INPUT.SSD.MAX_EXPAND", 1.0, "INPUT.SSD.MIN_CROP", 1.0)
    (one,) = build_ssd_augmentations(ssd_cfg(*off, "INPUT.RANDOM_FLIP", "none"))
    assert [type(x) for x in one.augmentations] == [ResizeTo]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("MODEL.META_ARCHITECTURE", "SOLOv2"), "give SOLOv2 INPUT.AUGMENTATION 'default'"),
        (("INPUT.CROP.ENABLED", True), "INPUT.CROP.ENABLED False"),
        (("INPUT.RANDOM_FLIP", "vertical"), "RANDOM_FLIP cannot be 'vertical'"),
        (("INPUT.SSD.MAX_EXPAND", 0.5), "MAX_EXPAND must be at least 1"),
        (("INPUT.SSD.MIN_CROP", 0.0), "MIN_CROP above 0"),
        (("INPUT.FORMAT", "L"), "needs images in RGB or BGR, not INPUT.FORMAT 'L'"),
    ],
)
def test_what_does_not_go_together_is_named(overrides, message):
    with pytest.raises(ValueError, match=message):
        build_ssd_augmentations(ssd_cfg(*overrides))
