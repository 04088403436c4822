"""Random views: what is drawn, and how often."""

import detectron2.data.transforms as T
import numpy as np
import pytest

from centermask_solo.data.transforms.geometric import (
    OneView,
    RandomCropKeepingCenters,
    RandomExpand,
    RandomMirror,
    ResizeTo,
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
    chosen = views(RandomCropKeepingCenters(0.3), boxes)
    cropped = [v for v in chosen if v.output_size != SIZE]
    # One of six modes keeps the whole image; a mode that finds no crop, which is rare here, draws again
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


def test_crops_of_images_without_objects_and_of_one_pixel():
    chosen = views(RandomCropKeepingCenters(0.3))
    assert 0.78 * DRAWS < sum(v.output_size != SIZE for v in chosen) < 0.88 * DRAWS
    one = np.array([[0.0, 0.0, 1.0, 1.0]])
    assert {v.output_size for v in views(RandomCropKeepingCenters(0.3), one, (1, 1))[:20]} == {(1, 1)}


def test_a_center_outside_of_all_crops_keeps_the_whole_image():
    corner = np.array([[-2.0, -2.0, 2.0, 2.0]])
    assert all(RandomCropKeepingCenters(0.3).choose(SIZE, corner).output_size == SIZE for _ in range(20))


def test_mirror_and_resize():
    chosen = views(RandomMirror())
    assert 0.45 * DRAWS < sum(v.flipped for v in chosen) < 0.55 * DRAWS
    assert ResizeTo((5, 7)).choose(SIZE, NOTHING).output_size == (5, 7)


def test_one_view_passes_on_the_moved_boxes():
    """The crop keeps the center of the only object, wherever the expansion has moved it."""
    box = np.array([[36.0, 26.0, 44.0, 34.0]])
    one = OneView([RandomExpand(4.0, (0.0,)), RandomCropKeepingCenters(0.3), RandomMirror(), ResizeTo((50, 50))])
    for v in views(one, box):
        x0, y0, x1, y1 = v.apply_box(box)[0]
        assert 0 < x0 + x1 < 100 and 0 < y0 + y1 < 100 and v.output_size == (50, 50)


def test_use_in_an_augmentation_list():
    image = np.zeros((*SIZE, 3), np.uint8)
    for augmentation in (RandomExpand(2.0, (0.0,)), RandomCropKeepingCenters(0.5), RandomMirror(), ResizeTo((9, 9))):
        aug_input = T.AugInput(image, boxes=np.array([[0.0, 0.0, 80.0, 60.0]]))
        T.AugmentationList([augmentation])(aug_input)
        assert aug_input.image.shape[2] == 3
        T.AugmentationList([augmentation])(T.AugInput(image))
