from __future__ import annotations

import pytest
import torch

from centermask_solo.modeling.yolact.matching import Choices, Objects, assign_one_to_one, match_anchors
from centermask_solo.ops.boxes import pairwise_iou
from centermask_solo.ops.topk import stable_topk
from tests.modeling.yolact.tiny import random_boxes
from tests.oracles import yolact as oracles

THRESHOLDS = {"positive_iou": 0.5, "negative_iou": 0.4, "crowd_ioa": 0.7}
NO_BOXES = torch.zeros(0, 4)
NO_CLASSES = torch.zeros(0, dtype=torch.int64)


def match(anchors, *images, effort=4):
    """The labels and objects of the anchors of each image, with as much effort as they need."""
    while not (matches := match_anchors(anchors, images, **THRESHOLDS, effort=effort)).is_complete:
        effort *= 4
    return matches


def labels_of(anchors, objects):
    return match(anchors, objects).labels[0]


def assign(ious, rounds=100):
    """The anchor of each object of one image, all of whose choices are known."""
    choices = Choices(*stable_topk(ious, len(ious)), torch.ones(len(ious), dtype=torch.bool), True)
    chosen, is_complete = assign_one_to_one([choices], ious.shape[1], rounds)
    return chosen.tolist(), bool(is_complete)


@pytest.mark.parametrize("seed", range(6))
def test_one_to_one_assignment_equals_the_greedy_one(seed):
    objects = random_boxes(9, seed)
    objects[5:7] = objects[0]  # three alike
    ious = pairwise_iou(objects, random_boxes(40, seed + 100))
    expected = oracles.assign_one_to_one(ious.tolist())
    assert assign(ious) == (expected, True)
    assert not assign(ious, rounds=1)[1]


def test_more_objects_than_anchors():
    ious = pairwise_iou(random_boxes(6, 0), random_boxes(4, 1))
    expected = oracles.assign_one_to_one(ious.tolist())
    assert assign(ious) == (expected, True)
    assert sorted(expected) == [-1, -1, 0, 1, 2, 3]


def test_images_of_different_numbers_are_assigned_together():
    images = [pairwise_iou(random_boxes(n, n), random_boxes(20, 9)) for n in (7, 0, 30, 1)]
    choices = [Choices(*stable_topk(x, len(x)), torch.arange(len(x)) != 3, True) for x in images]
    chosen, is_complete = assign_one_to_one(choices, 20, rounds=100)
    expected = []
    for i, ious in enumerate(images):
        ious[3:4] = -1  # takes no part, so it takes what is left
        own = [20 * i + x if x >= 0 else -1 for x in oracles.assign_one_to_one(ious.tolist())]
        expected += [-1 if row == 3 else x for row, x in enumerate(own)]
    assert chosen.tolist() == expected
    assert is_complete


def test_many_objects_that_are_alike_take_an_anchor_each():
    objects = torch.tensor([[0.2, 0.2, 0.6, 0.6]]).repeat(300, 1)
    labels = labels_of(random_boxes(500, 3), Objects(objects, torch.arange(300), NO_BOXES))
    assert set(range(1, 301)) <= set(labels.tolist())


@pytest.mark.parametrize(("alike", "needed"), [(1, 64), (150, 256)])
def test_as_many_choices_are_ranked_as_objects_need(alike, needed):
    """Otherwise thousands of objects take memory that grows with the square of their number."""
    boxes = random_boxes(300, 0)
    boxes[:alike] = boxes[0]
    objects, anchors = Objects(boxes, torch.arange(300), NO_BOXES), random_boxes(500, 3)
    tries = {n: match_anchors(anchors, [objects], **THRESHOLDS, effort=n) for n in (4, 16, 64, 256, 1000)}
    assert min(n for n, x in tries.items() if x.is_complete) == needed
    for effort, found in tries.items():
        assert found.is_complete == (effort >= needed)
        assert torch.equal(found.labels, tries[1000].labels) == (effort >= needed)


@pytest.mark.parametrize("chunk_bytes", [2**25, 1])
@pytest.mark.parametrize("seed", range(4))
def test_matching_equals_the_rule(seed, chunk_bytes, monkeypatch):
    monkeypatch.setattr("centermask_solo.ops.chunks.CHUNK_BYTES", chunk_bytes)
    anchors, boxes, crowds = random_boxes(120, seed), random_boxes(7, seed + 50), random_boxes(2, seed + 70, largest=16)
    classes = torch.arange(7) % 3
    labels, owners = oracles.match_anchors(
        anchors.tolist(), boxes.tolist(), classes.tolist(), crowds.tolist(), 0.5, 0.4, 0.7
    )
    matches = match(anchors, Objects(boxes, classes, crowds))
    assert matches.labels[0].tolist() == labels
    positive = matches.labels > 0
    assert matches.instances[positive].tolist() == [x for x, label in zip(owners, labels, strict=True) if label > 0]
    assert (matches.labels == -1).any()
    assert len(positive.nonzero()) >= 7


def test_thresholds_belong_to_the_better_side():
    anchors = torch.tensor([[0.0, 0, 1, 1], [0.0, 0, 1, 0.5], [0.0, 0, 1, 0.4], [0.0, 0, 1, 0.39]])
    assert labels_of(anchors, Objects(anchors[:1], torch.tensor([4]), NO_BOXES)).tolist() == [5, 5, -1, 0]


def test_an_object_takes_its_anchor_however_far():
    anchors = torch.tensor([[0.0, 0, 0.1, 0.1], [0.2, 0.2, 0.3, 0.3]])
    far = torch.tensor([[0.8, 0.8, 0.9, 0.9]])
    assert labels_of(anchors, Objects(far, torch.tensor([1]), NO_BOXES)).tolist() == [2, 0]


@pytest.mark.parametrize("box", [[0.2, 0.2, 0.2, 0.8], [0.5, 0.5, 0.5, 0.5], [0.6, 0.2, 0.4, 0.8]])
def test_objects_without_extent_take_no_anchor(box):
    objects = Objects(torch.tensor([box]), torch.tensor([1]), NO_BOXES)
    assert not labels_of(random_boxes(30, 0), objects).any()


def test_crowds_alone_make_neutrals():
    anchors = torch.tensor([[0.0, 0, 0.5, 0.5], [0.0, 0, 1, 1]])
    objects = Objects(NO_BOXES, NO_CLASSES, torch.tensor([[0.0, 0, 0.5, 0.4]]))
    assert labels_of(anchors, objects).tolist() == [-1, 0]


def test_images_of_a_batch_are_matched_as_alone():
    anchors = random_boxes(120, 0)
    images = [Objects(random_boxes(n, n), torch.arange(n) % 3, random_boxes(n % 3, 40)) for n in (5, 0, 40, 1)]
    first = 0
    matches = match(anchors, *images)
    for objects, labels, instances in zip(images, matches.labels, matches.instances, strict=True):
        alone = match(anchors, objects)
        assert torch.equal(labels, alone.labels[0])
        assert torch.equal(instances, alone.instances[0] + first)
        first += len(objects.boxes)
