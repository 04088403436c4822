from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from centermask_solo.modeling.solo.ground_truth import convert_ground_truth, reduce_by
from centermask_solo.modeling.solo.targets import build_targets
from centermask_solo.utils.errors import DataError
from tests.modeling.inputs import empty_instances, instances_of, rectangles
from tests.oracles import solov2 as oracles

GRIDS = [10, 8, 6]
RANGES = [(1, 40), (20, 90), (60, 400)]
STRIDES = [4, 4, 8]  # of the masks
K = 3


def targets_of(*gt_instances, size=(96, 128)):
    sizes = [(size[0] // s, size[1] // s) for s in STRIDES]
    ground_truth = convert_ground_truth(list(gt_instances), sizes, STRIDES, RANGES, torch.device("cpu"))
    options = {"num_classes": K, "num_grids": GRIDS, "scale_ranges": RANGES, "sigma": 0.2}
    return ground_truth, build_targets(ground_truth, input_size=size, **options)


@pytest.mark.parametrize("ratio", [4, 8, 16])
@pytest.mark.parametrize("size", [(96, 128), (75, 101), (1, 3), (33, 9)])
def test_masks_are_reduced_as_opencv_reduces_padded_bytes(ratio, size):
    masks = torch.rand(5, *size, generator=torch.Generator().manual_seed(ratio)) > 0.5
    padded = np.zeros((5, 128, 160), dtype=np.uint8)
    padded[:, : size[0], : size[1]] = masks.numpy()
    expected = [cv2.resize(x, (160 // ratio, 128 // ratio), interpolation=cv2.INTER_LINEAR) for x in padded]
    reduced = reduce_by(masks, ratio, (128 // ratio, 160 // ratio))
    assert torch.equal(reduced, torch.from_numpy(np.stack(expected)).bool())
    assert torch.equal(reduce_by(masks, ratio, (2, 1)), reduced[:, :2, :1])


def test_two_of_the_four_central_pixels_set_a_pixel():
    masks = torch.zeros(3, 16, 16, dtype=torch.bool)
    masks[0, 7, 7] = masks[0, 8, 8] = True
    masks[1, 7, 7] = True
    masks[2] = True
    masks[2, 7:9, 7:9] = False
    assert reduce_by(masks, 16, (1, 1)).flatten().tolist() == [True, False, False]
    assert reduce_by(masks, 8, (2, 2)).flatten(1).sum(1).tolist() == [0, 0, 4]


def random_instances(seed, count=12, height=90, width=120):
    """Rectangles of many sizes with random holes; one has no pixels, and the last ones share their cells."""
    rng = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, 2, generator=rng).sort(dim=1).values * torch.tensor([height - 4, width - 4])
    corners = corners.int()
    boxes = [(y0, x0, y1 + 3, x1 + 3) for (y0, x0), (y1, x1) in corners.tolist()]
    masks = rectangles(height, width, *boxes, boxes[-1])
    masks &= torch.rand(masks.shape, generator=rng) < 0.9
    masks[2] = False
    found = instances_of(masks, [i % K for i in range(len(masks))])
    found.gt_boxes.tensor[2] = torch.tensor([10.0, 10, 50, 50])
    return found


@pytest.mark.parametrize("seed", range(4))
def test_the_last_instance_that_claims_a_cell_gives_its_class_and_its_mask(seed):
    images = [random_instances(seed), empty_instances(60, 60), random_instances(seed + 10, 7)]
    _, targets = targets_of(*images)
    expected = {}
    for n, x in enumerate(images):
        masks = x.gt_masks.tensor if len(x) else []
        for m, level, row, column in oracles.claims(x.gt_boxes.tensor, masks, (96, 128), GRIDS, RANGES, 0.2):
            expected[level, n, row * GRIDS[level] + column] = m
    assert len(expected) == targets.num_positive == len(targets.cells) > 20

    found = [(level, n) for level, counts in enumerate(targets.counts) for n, c in enumerate(counts) for _ in range(c)]
    keys = [(*key, cell) for key, cell in zip(found, targets.cells.tolist(), strict=True)]
    assert keys == sorted(expected)
    for (level, n, cell), row in zip(keys, targets.mask_rows.tolist(), strict=True):
        x, m = images[n], expected[level, n, cell]
        assert targets.classes[level][n].flatten()[cell] == x.gt_classes[m]
        mask = targets.masks[level][row]
        assert torch.equal(mask, reduce_by(x.gt_masks.tensor[m : m + 1], STRIDES[level], mask.shape)[0])
    assert sum(int((x < K).sum()) for x in targets.classes) == targets.num_positive


def test_a_mask_is_reduced_for_the_levels_of_its_box_only():
    small, large = (40, 40, 60, 60), (0, 0, 90, 110)
    ground_truth, targets = targets_of(instances_of(rectangles(96, 128, small, large, small), [0, 1, 2]))
    assert [len(x) for x in ground_truth.masks] == [2, 2, 1]
    assert ground_truth.masks[0] is ground_truth.masks[1]
    assert targets.counts[2] == [int((targets.classes[2] == 1).sum())] != [0]
    assert set(targets.mask_rows.tolist()) == {0, 1}
    assert not (targets.classes[0] == 0).any()  # the last of two alike


def test_an_object_that_vanishes_when_reduced_keeps_its_cells():
    _, targets = targets_of(instances_of(rectangles(96, 128, (40, 40, 41, 60)), [1]))
    assert targets.num_positive > 0
    assert not any(x.any() for x in targets.masks)


def test_nothing_to_learn_from():
    _, targets = targets_of(empty_instances(96, 128), instances_of(torch.zeros(1, 96, 128, dtype=torch.bool), [1]))
    assert targets.num_positive == 0 and targets.counts == [[0, 0]] * 3
    assert all((x == K).all() for x in targets.classes)


def test_a_class_beyond_the_models_is_an_error():
    with pytest.raises(DataError, match=r"class 3, but MODEL\.SOLO\.NUM_CLASSES is 3"):
        targets_of(instances_of(rectangles(96, 128, (8, 8, 50, 50)), [3]))
