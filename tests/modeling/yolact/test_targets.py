from __future__ import annotations

import pytest
import torch

from centermask_solo.modeling.yolact import targets as module
from centermask_solo.modeling.yolact.targets import (
    Objects,
    assign_one_to_one,
    build_targets,
    match_anchors,
    mine_negatives,
    reduced_sizes,
    sample_terms,
    sem_seg_targets,
)
from centermask_solo.ops.boxes import pairwise_iou
from centermask_solo.ops.topk import stable_topk
from tests import oracles

THRESHOLDS = {"positive_iou": 0.5, "negative_iou": 0.4, "crowd_ioa": 0.7}
NO_BOXES = torch.zeros(0, 4)
NO_CLASSES = torch.zeros(0, dtype=torch.int64)


def random_boxes(count, seed, side=16, largest=8):
    """Boxes with corners on a grid, so that many overlaps are equal."""
    rng = torch.Generator().manual_seed(seed)
    corners = torch.randint(0, side, (count, 2), generator=rng)
    sizes = torch.randint(1, largest, (count, 2), generator=rng)
    return torch.cat([corners, corners + sizes], dim=1).float() / side


@pytest.mark.parametrize("seed", range(6))
def test_one_to_one_assignment_equals_the_greedy_one(seed):
    objects = random_boxes(9, seed)
    objects[5:7] = objects[0]  # three alike
    ious = pairwise_iou(objects, random_boxes(40, seed + 100))
    expected = oracles.assign_one_to_one(ious.tolist())
    assert assign_one_to_one(*stable_topk(ious, 9), torch.ones(9, dtype=torch.bool)).tolist() == expected


def test_more_objects_than_anchors():
    ious = pairwise_iou(random_boxes(6, 0), random_boxes(4, 1))
    expected = oracles.assign_one_to_one(ious.tolist())
    chosen = assign_one_to_one(*stable_topk(ious, 6), torch.ones(6, dtype=torch.bool))
    assert chosen.tolist() == expected
    assert sorted(chosen.tolist()) == [-1, -1, 0, 1, 2, 3]


def test_many_objects_that_are_alike_take_an_anchor_each():
    objects = torch.tensor([[0.2, 0.2, 0.6, 0.6]]).repeat(300, 1)
    matches = match_anchors(random_boxes(500, 3), Objects(objects, torch.arange(300), NO_BOXES), **THRESHOLDS)
    assert set(range(1, 301)) <= set(matches.labels.tolist())


@pytest.mark.parametrize("chunk_floats", [2**22, 1])
@pytest.mark.parametrize("seed", range(4))
def test_matching_equals_the_rule(seed, chunk_floats, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_FLOATS", chunk_floats)
    anchors, boxes, crowds = random_boxes(120, seed), random_boxes(7, seed + 50), random_boxes(2, seed + 70, largest=16)
    classes = torch.arange(7) % 3
    labels, owners = oracles.match_anchors(
        anchors.tolist(), boxes.tolist(), classes.tolist(), crowds.tolist(), 0.5, 0.4, 0.7
    )
    matches = match_anchors(anchors, Objects(boxes, classes, crowds), **THRESHOLDS)
    assert matches.labels.tolist() == labels
    positive = matches.labels > 0
    assert matches.instances[positive].tolist() == [x for x, label in zip(owners, labels, strict=True) if label > 0]
    assert (matches.labels == -1).any()
    assert len(positive.nonzero()) >= 7


def test_thresholds_belong_to_the_better_side():
    anchors = torch.tensor([[0.0, 0, 1, 1], [0.0, 0, 1, 0.5], [0.0, 0, 1, 0.4], [0.0, 0, 1, 0.39]])
    matches = match_anchors(anchors, Objects(anchors[:1], torch.tensor([4]), NO_BOXES), **THRESHOLDS)
    assert matches.labels.tolist() == [5, 5, -1, 0]


def test_an_object_takes_its_anchor_however_far():
    anchors = torch.tensor([[0.0, 0, 0.1, 0.1], [0.2, 0.2, 0.3, 0.3]])
    far = torch.tensor([[0.8, 0.8, 0.9, 0.9]])
    assert match_anchors(anchors, Objects(far, torch.tensor([1]), NO_BOXES), **THRESHOLDS).labels.tolist() == [2, 0]


@pytest.mark.parametrize("box", [[0.2, 0.2, 0.2, 0.8], [0.5, 0.5, 0.5, 0.5], [0.6, 0.2, 0.4, 0.8]])
def test_objects_without_extent_take_no_anchor(box):
    objects = Objects(torch.tensor([box]), torch.tensor([1]), NO_BOXES)
    assert not match_anchors(random_boxes(30, 0), objects, **THRESHOLDS).labels.any()


def test_crowds_alone_make_neutrals():
    anchors = torch.tensor([[0.0, 0, 0.5, 0.5], [0.0, 0, 1, 1]])
    objects = Objects(NO_BOXES, NO_CLASSES, torch.tensor([[0.0, 0, 0.5, 0.4]]))
    assert match_anchors(anchors, objects, **THRESHOLDS).labels.tolist() == [-1, 0]


@pytest.mark.parametrize("ratio", [1, 3, 1000])
def test_mining_takes_the_hardest_background_of_each_image(ratio):
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 50, 4, generator=rng, dtype=torch.float64)
    labels = torch.randint(-1, 2, (3, 50), generator=rng) * (torch.rand(3, 50, generator=rng) < 0.3)
    labels[1] = 0  # no positive: nothing is mined
    got = mine_negatives(logits.float(), labels, ratio)
    for image in range(3):
        expected = oracles.mine_negatives(logits[image].tolist(), labels[image].tolist(), ratio)
        assert got[image].tolist() == expected
    assert not got[1].any()


def test_rows_far_below_the_others_are_still_ranked():
    """With the largest logit of all subtracted, the first two would both be the logarithm of 0."""
    logits = torch.tensor([[[-200.0, -201.0], [-200.0, -199.0], [0.0, 300.0], [0.0, 0.0]]])
    labels = torch.tensor([[0, 0, 1, -1]])
    assert mine_negatives(logits, labels, 1).tolist() == [[False, True, False, False]]


def test_sem_seg_targets_are_unions():
    masks = torch.zeros(4, 2, 3, dtype=torch.bool)
    masks[0, 0], masks[1, :, 0], masks[2, 1, 2], masks[3, 1] = True, True, True, True
    got = sem_seg_targets(masks, torch.tensor([0, 0, 0, 1]), torch.tensor([1, 1, 0, 1]), 2, 3)
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
    got = build_targets(torch.randn(3, 60, 4), anchors, objects, masks, masks[:, ::2, ::2], ohem_ratio=3,
                        masks_to_train=100, **THRESHOLDS)  # fmt: skip
    assert set(got.images.tolist()) == {0, 2}
    assert got.labels[got.images, got.anchors].tolist() == (got.classes[got.instances] + 1).tolist()
    torch.testing.assert_close(
        pairwise_iou(got.boxes[got.instances], anchors[got.anchors]).diagonal() >= 0.5,
        torch.ones(len(got.images), dtype=torch.bool),
    )
    assert got.terms_per_image == got.images.bincount(minlength=3).tolist()
    assert got.sem_seg.shape == (3, 3, 4, 4)
    assert torch.equal(got.sem_seg[2, 1], masks[2, ::2, ::2])


@pytest.mark.parametrize(("size", "side"), [(550, 69), (400, 50), (700, 88)])
def test_sizes_of_reduced_masks(size, side):
    assert reduced_sizes(size) == ((2 * side, 2 * side), (side, side))
