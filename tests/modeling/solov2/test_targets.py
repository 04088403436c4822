from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from centermask_solo.modeling.solov2.ground_truth import GroundTruth, quarter_masks, summarize_masks
from centermask_solo.modeling.solov2.targets import build_targets
from centermask_solo.utils.errors import DataError
from tests.counting import CountedFloats
from tests.oracles import solov2 as oracles

GRIDS = [5, 4, 2]
RANGES = [(1, 12), (8, 24), (20, 500)]
CPU = torch.device("cpu")


def boxes_of(masks):
    """Tight boxes (M, 4) of masks; of an empty one, a box of one pixel."""
    boxes = []
    for mask in masks:
        y, x = mask.nonzero(as_tuple=True)
        boxes.append([x.min(), y.min(), x.max() + 1, y.max() + 1] if len(x) else [0, 0, 1, 1])
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)


def targets_of(images, map_size, *, boxes=None, num_classes=3, grids=GRIDS, ranges=RANGES, sigma=0.2):
    """The targets of images given as (masks, classes), each image's masks in one chunk."""
    masks, classes = [m for m, _ in images], [torch.tensor(c, dtype=torch.int64) for _, c in images]
    ground_truth = GroundTruth(
        boxes=[boxes_of(m) for m in masks] if boxes is None else boxes,
        classes=classes,
        masks=summarize_masks(masks, sum(map(len, masks)), map_size, CPU),
    )
    return build_targets(
        ground_truth,
        num_classes=num_classes,
        num_grids=grids,
        scale_ranges=ranges,
        sigma=sigma,
    )


def rectangle(height, width, y0, x0, y1, x1):
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[y0:y1, x0:x1] = True
    return mask


def blobs(count, height, width, seed):
    """Random ellipses, some cut by the border, some of a few pixels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    masks = []
    for _ in range(count):
        cy, cx, ry, rx = rng.uniform((0, 0, 0.5, 0.5), (height, width, height / 2, width / 2))
        masks.append(((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1)
    return torch.from_numpy(np.stack(masks))


@pytest.mark.parametrize(("height", "width"), [(40, 64), (37, 61), (7, 5), (2, 2), (1, 9), (3, 400)])
def test_masks_are_reduced_as_by_opencv(height, width):
    rng = np.random.default_rng(height)
    masks = rng.random((6, height, width)) > np.linspace(0.2, 0.9, 6)[:, None, None]
    reduced = quarter_masks(torch.from_numpy(masks))
    size = (int(height / 4 + 0.5), int(width / 4 + 0.5))
    assert reduced.shape == (6, *size)
    assert reduced.dtype == torch.bool
    for mask, got in zip(masks, reduced, strict=True):
        assert torch.equal(got, oracles.reduced_mask(torch.from_numpy(mask)))
        if min(size) > 0:
            expected = cv2.resize(mask.astype(np.uint8), size[::-1], interpolation=cv2.INTER_LINEAR)
            assert np.array_equal(got.numpy(), expected)


def test_two_of_the_four_pixels_in_the_middle_of_a_block_set_it():
    mask = torch.ones(4, 12, dtype=torch.bool)
    mask[1, 1] = mask[1, 5] = mask[2, 6] = mask[1, 9] = mask[1, 10] = mask[2, 9] = False  # 1, 2 and 3 of the four
    assert quarter_masks(mask[None]).tolist() == [[[True, True, False]]]


def test_a_mask_lies_at_the_top_left_of_the_padded_map():
    summary = summarize_masks([torch.ones(2, 8, 12, dtype=torch.bool)], 2, (8, 8), CPU)
    assert summary.areas.tolist() == [96, 96]
    assert torch.equal(summary.reduced[1], rectangle(8, 8, 0, 0, 2, 3))


def test_only_pixels_around_objects_are_computed():
    """Thousands of small objects take time for their own pixels, not for those of the image each."""
    masks = torch.stack([rectangle(320, 480, 12 * i, 9 * i, 12 * i + 8, 9 * i + 10) for i in range(25)])
    with CountedFloats() as counted:
        summary = summarize_masks([masks], 25, (80, 120), CPU)
    assert summary.reduced.flatten(1).any(1).all()
    assert counted.numbers < 25 * 3000  # a mask has 153,600 pixels


def test_chunks_do_not_matter():
    masks = blobs(7, 30, 50, seed=0)
    whole = summarize_masks([masks], 7, (16, 16), CPU)
    parts = summarize_masks(iter(masks.split(3)), 7, (16, 16), CPU)
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sigma", [0.2, 0.5])
def test_targets_equal_loops_over_instances_and_cells(seed, sigma):
    sizes, input_size = [(60, 90), (64, 50), (33, 47)], (64, 96)
    masks = [blobs(count, *size, seed=10 * seed + count) for count, size in zip((9, 6, 4), sizes, strict=True)]
    masks[0][3] = False  # an instance without pixels
    rng = np.random.default_rng(seed)
    classes = [rng.integers(0, 3, len(m)).tolist() for m in masks]
    boxes = [boxes_of(m) + torch.from_numpy(rng.uniform(-0.4, 0.4, (len(m), 4)).astype(np.float32)) for m in masks]
    for b in boxes:
        b[:, 2:] = torch.maximum(b[:, 2:], b[:, :2] + 0.2)
    got = targets_of(list(zip(masks, classes, strict=True)), (16, 24), boxes=boxes, sigma=sigma)

    first_cells = np.cumsum([0, *(s * s for s in GRIDS)])
    terms, first_instance = [], 0
    expected = [torch.full((3, s, s), 3) for s in GRIDS]
    for i in range(3):
        claims = oracles.claims(boxes[i], masks[i], input_size, GRIDS, RANGES, sigma)
        for instance, level, row, column in claims:
            expected[level][i, row, column] = classes[i][instance]
            terms.append((i, first_cells[level] + row * GRIDS[level] + column, first_instance + instance))
        assert got.terms_per_image[i] == len(claims) > 0
        first_instance += len(masks[i])
    assert all(torch.equal(a, b) for a, b in zip(got.classes, expected, strict=True))
    assert got.num_positive == sum(int((x < 3).sum()) for x in expected)
    assert sorted(zip(*(x.tolist() for x in got[2:5]), strict=True)) == sorted(terms)
    assert got.term_images.tolist() == sorted(got.term_images.tolist())


def test_a_large_object_claims_nine_cells_and_a_small_one_the_cell_of_its_center():
    masks = torch.stack((rectangle(80, 80, 2, 2, 78, 78), rectangle(80, 80, 60, 20, 66, 26)))
    got = targets_of([(masks, [2, 0])], (20, 20), grids=[40, 20], ranges=[(1, 16), (16, 100)], sigma=1.0)
    small, large = got.classes
    # The center (22.5, 62.5) times 40 / 80 is in cell (11, 31); sigma 1 adds the neighbors within 3 pixels.
    assert (small != 3).nonzero()[:, 1:].tolist() == [[y, x] for y in (30, 31, 32) for x in (10, 11, 12)]
    # The center 39.5 times 20 / 80 is in cell 9; the region is 19 cells wide, of which 3 x 3 count.
    assert (large != 3).nonzero()[:, 1:].tolist() == [[y, x] for y in (8, 9, 10) for x in (8, 9, 10)]
    assert (small[small != 3] == 0).all()
    assert (large[large != 3] == 2).all()
    assert got.num_positive == 18

    got = targets_of([(masks[1:], [0])], (20, 20), grids=[40], ranges=[(1, 16)], sigma=0.1)
    assert (got.classes[0] != 3).nonzero().tolist() == [[0, 31, 11]]


@pytest.mark.parametrize("side", [3, 5, 7, 36, 40])
def test_a_center_exactly_on_a_border_belongs_to_the_cell_after_it(side):
    """Rounding in floating point would put some of these into the cell before."""
    for k in range(1, side):
        mask = torch.zeros(1, side * 12, dtype=torch.bool)
        mask[0, 12 * k] = True  # center 12 k of 12 * side is k / side
        mask = torch.cat((mask, torch.zeros(7, side * 12, dtype=torch.bool)))
        got = targets_of([(mask[None], [1])], (2, 3 * side), grids=[side], ranges=[(1, 9)], sigma=0.0)
        assert (got.classes[0] == 1).nonzero().tolist() == [[0, 0, k]]


def test_levels_include_both_ends_of_their_ranges():
    box = [torch.tensor([[0.0, 0.0, 8.0, 8.0]])]
    mask = rectangle(32, 32, 0, 0, 8, 8)[None]
    got = targets_of([(mask, [0])], (8, 8), boxes=box, grids=[2] * 4, ranges=[(1, 8), (8, 9), (8.001, 9), (1, 7.999)])
    assert [int((x == 0).sum()) for x in got.classes] == [1, 1, 0, 0]


@pytest.mark.parametrize("side", [0.9, 25.0], ids=["too small", "too large"])
def test_an_object_of_no_level_claims_nothing(side):
    boxes = [torch.tensor([[0.0, 0.0, side, side]])]
    got = targets_of([(torch.ones(1, 32, 32, dtype=torch.bool), [0])], (8, 8), boxes=boxes, ranges=[(1, 24)], grids=[4])
    assert got.num_positive == 0
    assert got.terms_per_image == [0]


def test_two_instances_in_one_cell_are_two_dice_terms_with_the_later_class():
    mask = rectangle(40, 40, 0, 0, 8, 8)
    got = targets_of([(torch.stack((mask, mask, mask)), [0, 2, 1])], (10, 10), grids=[2], ranges=[(1, 99)])
    assert got.classes[0].tolist() == [[[1, 3], [3, 3]]]
    assert got.num_positive == 1
    assert got.term_cells.tolist() == [0, 0, 0]
    assert got.term_instances.tolist() == [0, 1, 2]


def test_an_instance_without_pixels_claims_nothing():
    masks = torch.stack((torch.zeros(40, 40, dtype=torch.bool), rectangle(40, 40, 0, 0, 8, 8)))
    boxes = [torch.tensor([[0.0, 0.0, 8.0, 8.0]] * 2)]
    got = targets_of([(masks, [0, 2])], (10, 10), boxes=boxes, grids=[2], ranges=[(1, 99)])
    assert got.term_instances.tolist() == [1]
    assert got.num_positive == 1


def test_an_object_that_vanishes_when_reduced_keeps_its_cells():
    got = targets_of([(rectangle(40, 40, 4, 4, 5, 5)[None], [0])], (10, 10), grids=[2], ranges=[(1, 99)])
    assert got.num_positive == 1
    assert not got.masks[got.term_instances].any()


def test_images_without_instances_are_background():
    empty, one = torch.zeros(0, 40, 40, dtype=torch.bool), rectangle(40, 40, 0, 0, 8, 8)[None]
    got = targets_of([(empty, []), (one, [1]), (empty, [])], (10, 10))
    assert [bool((x[i] == 3).all()) for x in got.classes[:1] for i in range(3)] == [True, False, True]
    assert got.terms_per_image[0] == got.terms_per_image[2] == 0

    got = targets_of([(empty, [])], (10, 10))
    assert all(bool((x == 3).all()) for x in got.classes)
    assert got.masks.shape == (0, 10, 10)
    assert (got.num_positive, got.terms_per_image, len(got.term_cells)) == (0, [0], 0)


@pytest.mark.parametrize("wrong", [3, -1])
def test_a_class_that_the_model_does_not_have_is_an_error(wrong):
    masks = rectangle(40, 40, 0, 0, 8, 8).expand(2, -1, -1)
    with pytest.raises(DataError, match=rf"class {wrong}, but MODEL.SOLOV2.NUM_CLASSES is 3"):
        targets_of([(masks, [0, wrong])], (10, 10))
