from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from centermask_solo.ops.masks import mask_iou
from centermask_solo.ops.nms import competing_overlaps, fast_nms, fast_nms_slots, greedy_nms, matrix_nms
from tests import parity
from tests.oracles import ops as oracles

CASE = Path(__file__).parents[1] / "goldens" / "matrix_nms.json"


def ranked(seed, count=30, num_classes=3):
    """Overlaps of random rectangles (some of them alike), their classes and falling scores with ties."""
    rng = torch.Generator().manual_seed(seed)
    masks = torch.zeros(count, 20, 20, dtype=torch.bool)
    for mask in masks:
        y, x = torch.randint(0, 10, (2,), generator=rng).tolist()
        h, w = torch.randint(1, 10, (2,), generator=rng).tolist()
        mask[y : y + h, x : x + w] = True
    masks[count // 2 :: 4] = masks[0]
    scores = torch.randint(1, 12, (count,), generator=rng).sort(descending=True).values / 12
    return mask_iou(masks), torch.randint(0, num_classes, (count,), generator=rng), scores


def pair(overlap, count=2):
    """The overlaps of ``count`` masks, any two of which overlap by ``overlap``."""
    return torch.full((count, count), overlap).fill_diagonal_(1.0)


@pytest.mark.parametrize("settings", ["gaussian", "gaussian_0.5", "linear"])
def test_matrix_nms_equals_the_published_code(settings):
    case = json.loads(CASE.read_text())
    with np.load(CASE.with_suffix(".npz")) as arrays:
        for name, info in case["sets"].items():
            count, height, width = info["masks"], info["height"], info["width"]
            bits = np.unpackbits(arrays[f"{name}/masks"], axis=1)[:, : height * width]
            masks = torch.from_numpy(bits.reshape(count, height, width)).bool()
            classes, scores = (torch.from_numpy(arrays[f"{name}/{key}"]) for key in ("labels", "scores"))
            got = matrix_nms(mask_iou(masks), classes, scores, **case["settings"][settings])
            key = f"{name}/{settings}"
            assert parity.compare(arrays, key, got.numpy()) <= case["tolerance"][key], key


@pytest.mark.parametrize("kernel", ["gaussian", "linear"])
@pytest.mark.parametrize("seed", range(5))
def test_matrix_nms_equals_the_formula(kernel, seed):
    ious, classes, scores = ranked(seed)
    for given, used in ((classes, classes.tolist()), (None, [0] * len(classes))):
        expected = oracles.matrix_nms(ious, used, scores.tolist(), kernel, 2.0)
        torch.testing.assert_close(matrix_nms(ious, given, scores, kernel, 2.0), torch.tensor(expected))


@pytest.mark.parametrize("kernel", ["gaussian", "linear"])
def test_matrix_nms_only_lowers(kernel):
    ious, classes, scores = ranked(seed=9, count=60)
    before = scores.clone()
    decayed = matrix_nms(ious, classes, scores, kernel)
    assert torch.equal(scores, before)
    assert bool((decayed <= scores).all())
    assert bool((decayed >= 0).all())
    first_of_class = [(classes == k).nonzero()[0].item() for k in classes.unique()]
    assert torch.equal(decayed[first_of_class], scores[first_of_class])


def test_matrix_nms_by_hand():
    scores = torch.tensor([0.8, 0.6])
    one_class = torch.tensor([1, 1])
    gaussian = matrix_nms(pair(0.5), one_class, scores, "gaussian", sigma=2.0)
    torch.testing.assert_close(gaussian, torch.tensor([0.8, 0.6 * 0.60653066]))  # exp(-2 x 0.25)
    torch.testing.assert_close(matrix_nms(pair(0.5), one_class, scores, "linear"), torch.tensor([0.8, 0.3]))
    assert torch.equal(matrix_nms(pair(0.5), torch.tensor([0, 1]), scores), scores)
    assert matrix_nms(pair(0.5), None, scores)[1] < 0.6


def test_a_suppressed_instance_suppresses_less():
    """The third overlaps the second alone, and as much as the second overlaps the first: it keeps its score."""
    ious = torch.tensor([[1.0, 0.9, 0.0], [0.9, 1.0, 0.9], [0.0, 0.9, 1.0]])
    decayed = matrix_nms(ious, None, torch.tensor([0.9, 0.8, 0.7]))
    assert decayed[1] < 0.2
    assert decayed[2].item() == pytest.approx(0.7)


@pytest.mark.parametrize(("kernel", "expected"), [("linear", 0.0), ("gaussian", 0.7 * 0.1353353)])
def test_identical_masks_lose_to_the_first(kernel, expected):
    """Also the third, whose ratio is 0 / 0 for the linear kernel."""
    decayed = matrix_nms(pair(1.0, 3), torch.zeros(3, dtype=torch.int64), torch.full((3,), 0.7), kernel)
    torch.testing.assert_close(decayed, torch.tensor([0.7, expected, expected]))


def test_an_unknown_kernel_is_an_error():
    with pytest.raises(ValueError, match="one of gaussian, linear, not 'gauss'"):
        matrix_nms(pair(0.5), None, torch.ones(2), "gauss")


@pytest.mark.parametrize("classes", [None, torch.zeros(0, dtype=torch.int64)])
def test_nothing_in_nothing_out(classes):
    nothing = torch.zeros(0, 0)
    assert matrix_nms(nothing, classes, torch.zeros(0)).shape == (0,)
    keep = greedy_nms(nothing, classes, 0.5)
    assert (keep.shape, keep.dtype) == ((0,), torch.bool)


@pytest.mark.parametrize("seed", range(5))
def test_greedy_nms_equals_the_rule(seed):
    ious, classes, _ = ranked(seed)
    for given, used in ((classes, classes.tolist()), (None, [0] * len(classes))):
        for thresh in (0.0, 0.29, 1.0):
            assert greedy_nms(ious, given, thresh).nonzero().flatten().tolist() == oracles.greedy_nms(
                ious, used, thresh
            )


def test_greedy_nms_by_hand():
    chain = torch.tensor([[1.0, 0.6, 0.1], [0.6, 1.0, 0.6], [0.1, 0.6, 1.0]])
    assert greedy_nms(chain, None, 0.5).tolist() == [True, False, True]  # the second is gone: it suppresses nothing
    assert greedy_nms(pair(0.5), None, 0.5).all()  # strictly above


def test_only_better_instances_of_the_class_compete():
    overlaps = competing_overlaps(pair(0.4, 3), torch.tensor([2, 5, 2]))
    assert overlaps.tolist() == [[0, 0, pytest.approx(0.4)], [0, 0, 0], [0, 0, 0]]


def random_boxes(seed, count, num_classes):
    """Boxes of which some are alike, and scores of every class, with ties."""
    rng = torch.Generator().manual_seed(seed)
    corners = torch.randint(0, 20, (count, 2), generator=rng)
    boxes = torch.cat([corners, corners + torch.randint(0, 12, (count, 2), generator=rng)], dim=1).float()
    boxes[count // 2 :: 3] = boxes[0]
    return boxes, torch.randint(1, 30, (count, num_classes), generator=rng) / 32


@pytest.mark.parametrize("topk", [1, 7, 100])
@pytest.mark.parametrize("seed", range(3))
def test_fast_nms_equals_the_rule(seed, topk, monkeypatch):
    boxes, scores = random_boxes(seed, count=30, num_classes=5)
    expected = oracles.fast_nms(boxes.tolist(), scores.tolist(), 0.4, topk, 0.1)
    for chunk_bytes in (2**25, 1):  # all classes at once, or one by one
        monkeypatch.setattr("centermask_solo.ops.chunks.CHUNK_BYTES", chunk_bytes)
        rows, classes, kept = fast_nms(boxes, scores, 0.4, topk, 0.1)
        got = list(zip(kept.tolist(), classes.tolist(), rows.tolist(), strict=True))
        assert got == expected


@pytest.mark.parametrize("limit", [3, 60, 500])
@pytest.mark.parametrize("topk", [1, 7, 100])
def test_fast_nms_in_slots_keeps_the_same_of_each_image(topk, limit, monkeypatch):
    images = [random_boxes(seed, count=30, num_classes=5) for seed in range(3)]
    images[2][1][:] = 0.1  # nothing above the threshold
    boxes, scores = torch.stack([x[0] for x in images]), torch.stack([x[1].T for x in images])
    for chunk_bytes in (2**25, 1):
        monkeypatch.setattr("centermask_solo.ops.chunks.CHUNK_BYTES", chunk_bytes)
        got = fast_nms_slots(boxes, scores, 0.4, topk, 0.1, limit)
        for of_image, (own_boxes, own_scores) in zip(zip(*got, strict=True), images, strict=True):
            expected = fast_nms(own_boxes, own_scores, 0.4, topk, 0.1)
            assert of_image[3] == len(expected[0])
            for slots, values in zip(of_image[:3], expected, strict=True):
                used = len(values[:limit])
                assert torch.equal(slots[:used], values[:limit])
                assert len(slots) == limit and not slots[used:].any()


@pytest.mark.parametrize(("count", "num_classes"), [(0, 3), (4, 0)])
def test_fast_nms_of_nothing(count, num_classes):
    rows, classes, scores = fast_nms(torch.zeros(count, 4), torch.zeros(count, num_classes), 0.5, 200)
    assert (rows.shape, classes.shape, scores.shape) == ((0,), (0,), (0,))


def test_boxes_without_area_suppress_nothing():
    boxes = torch.tensor([[3.0, 3, 3, 3], [3.0, 3, 3, 3], [0.0, 0, 9, 9]])
    assert fast_nms(boxes, torch.tensor([[0.9], [0.8], [0.7]]), 0.5, 200)[0].tolist() == [0, 1, 2]
