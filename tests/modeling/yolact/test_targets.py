from __future__ import annotations

import pytest
import torch

from centermask_solo.modeling.semantic import unite_classes
from centermask_solo.modeling.yolact.ground_truth import GroundTruth
from centermask_solo.modeling.yolact.matching import Objects
from centermask_solo.modeling.yolact.targets import (
    TargetOptions,
    build_targets,
    mine_negatives,
    places,
    ranked_places,
    reduced_sizes,
    sample_terms,
)
from centermask_solo.ops.boxes import pairwise_iou
from tests.host_reads import HostReads
from tests.modeling.yolact.tiny import random_boxes
from tests.oracles import yolact as oracles

NO_BOXES = torch.zeros(0, 4)
NO_CLASSES = torch.zeros(0, dtype=torch.int64)


@pytest.mark.parametrize("ratio", [1, 3, 1000])
def test_mining_takes_the_hardest_background_of_each_image(ratio):
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 50, 4, generator=rng, dtype=torch.float64)
    labels = torch.randint(-1, 2, (3, 50), generator=rng) * (torch.rand(3, 50, generator=rng) < 0.3)
    labels[1] = 0  # no positive: nothing is mined
    got = mine_negatives(logits.float(), labels, ratio, int((labels > 0).sum(1).max()))
    for image in range(3):
        expected = oracles.mine_negatives(logits[image].tolist(), labels[image].tolist(), ratio)
        assert got[image].tolist() == expected
    assert not got[1].any()


def test_rows_far_below_the_others_are_still_ranked():
    """With the largest logit of all subtracted, the first two would both be the logarithm of 0."""
    logits = torch.tensor([[[-200.0, -201.0], [-200.0, -199.0], [0.0, 300.0], [0.0, 0.0]]])
    labels = torch.tensor([[0, 0, 1, -1]])
    assert mine_negatives(logits, labels, 1, 1).tolist() == [[False, True, False, False]]


def test_sem_seg_targets_are_unions():
    masks = torch.zeros(4, 2, 3, dtype=torch.bool)
    masks[0, 0], masks[1, :, 0], masks[2, 1, 2], masks[3, 1] = True, True, True, True
    got = unite_classes(masks, torch.tensor([0, 0, 0, 1]), torch.tensor([1, 1, 0, 1]), 2, 3)
    assert got.shape == (2, 3, 2, 3)
    assert torch.equal(got[0, 1], masks[0] | masks[1])
    assert torch.equal(got[0, 0], masks[2])
    assert torch.equal(got[1, 1], masks[3])
    assert not got[:, 2].any()


def test_more_positives_than_masks_to_train_are_drawn_at_random():
    drawn = set()
    for seed in range(5):
        torch.manual_seed(seed)
        rows, weights, numbers = sample_terms([3, 0, 10], 4, torch.device("cpu"))
        assert numbers == [3, 0, 4]
        assert rows[:3].tolist() == [0, 1, 2]
        assert len(set(rows.tolist())) == 7
        assert 3 <= rows[3:].min() <= rows.max() < 13
        assert weights.tolist() == [1.0] * 3 + [2.5] * 4
        drawn.add(tuple(rows.tolist()))
    assert len(drawn) > 1


def test_targets_of_a_batch_count_objects_through_the_images():
    anchors = random_boxes(60, 0)
    objects = [
        Objects(anchors[[3, 8]], torch.tensor([0, 2]), NO_BOXES),
        Objects(NO_BOXES, NO_CLASSES, anchors[:1]),
        Objects(anchors[[20]], torch.tensor([1]), NO_BOXES),
    ]
    masks = torch.rand(3, 8, 8) < 0.5
    got = build_targets(
        torch.randn(3, 60, 4), anchors, GroundTruth(objects, masks, masks[:, ::2, ::2]), TargetOptions()
    )
    assert set(got.images.tolist()) == {0, 2}
    assert got.labels[got.images, got.anchors].tolist() == (got.classes[got.instances] + 1).tolist()
    torch.testing.assert_close(
        pairwise_iou(got.boxes[got.instances], anchors[got.anchors]).diagonal() >= 0.5,
        torch.ones(len(got.images), dtype=torch.bool),
    )
    assert got.terms_per_image == got.images.bincount(minlength=3).tolist()
    assert got.sem_seg.shape == (3, 3, 4, 4)
    assert torch.equal(got.sem_seg[2, 1], masks[2, ::2, ::2])


@pytest.mark.parametrize("ratio", [0, 1, 1000])
def test_mined_negatives_are_counted(ratio):
    """From what is read of the labels; an image without objects mines nothing, and one can have too few."""
    anchors = random_boxes(60, 0)
    objects = [
        Objects(anchors[[3, 8]], torch.tensor([0, 2]), NO_BOXES),
        Objects(NO_BOXES, NO_CLASSES, NO_BOXES),
        Objects(anchors[:50], torch.zeros(50, dtype=torch.int64), NO_BOXES),
    ]
    masks = torch.zeros(52, 8, 8, dtype=torch.bool)
    logits = torch.randn(3, 60, 4)
    logits[0, 5] = torch.nan
    got = build_targets(
        logits, anchors, GroundTruth(objects, masks, masks[:, ::2, ::2]), TargetOptions(ohem_ratio=ratio)
    )
    assert got.num_negatives == got.negatives.sum()
    assert (got.num_negatives == 0) == (ratio == 0)
    assert not got.negatives[1].any()
    if ratio:
        assert 0 < got.negatives[2].sum() < ratio * (got.labels[2] > 0).sum()


def test_objects_that_are_alike_cost_another_read_and_nothing_else(monkeypatch):
    """With the effort that they need from the start, the targets are the same."""
    objects = [
        Objects(torch.tensor([[0.2, 0.2, 0.6, 0.6]]).repeat(n, 1), torch.arange(n) % 3, NO_BOXES) for n in (30, 2)
    ]
    masks = torch.rand(32, 8, 8) < 0.5
    given = (torch.randn(2, 500, 4), random_boxes(500, 3), GroundTruth(objects, masks, masks[:, ::2, ::2]))
    with HostReads(2) as reads:
        got = build_targets(*given, TargetOptions())
    assert len(reads.reads) == 2
    monkeypatch.setattr("centermask_solo.modeling.yolact.targets.FIRST_EFFORT", 32)
    with HostReads(1):
        expected = build_targets(*given, TargetOptions())
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
    assert len(got.anchors) >= 32


@pytest.mark.parametrize(("size", "side"), [(550, 69), (400, 50), (700, 88)])
def test_sizes_of_reduced_masks(size, side):
    assert reduced_sizes(size) == ((2 * side, 2 * side), (side, side))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_places_are_the_same_on_a_gpu_without_nonzero(share):
    flags = torch.rand(500, generator=torch.Generator().manual_seed(0)) < share
    expected = flags.nonzero()[:, 0]
    assert torch.equal(places(flags, len(expected)), expected)
    with HostReads(limit=0):
        found = ranked_places(flags, len(expected))
    assert torch.equal(found, expected) and found.dtype == expected.dtype
