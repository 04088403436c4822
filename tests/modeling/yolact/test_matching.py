from __future__ import annotations

import pytest
import torch

from centermask_solo.modeling.yolact import matching
from centermask_solo.modeling.yolact.matching import Objects, assign_one_to_one, match_anchors
from centermask_solo.ops.boxes import pairwise_iou
from centermask_solo.ops.topk import stable_topk
from tests.modeling.yolact.tiny import random_boxes
from tests.oracles import yolact as oracles

THRESHOLDS = {"positive_iou": 0.5, "negative_iou": 0.4, "crowd_ioa": 0.7}
NO_BOXES = torch.zeros(0, 4)
NO_CLASSES = torch.zeros(0, dtype=torch.int64)


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


@pytest.mark.parametrize(("alike", "most"), [(1, matching.FIRST_CHOICES), (150, 300)])
def test_as_many_choices_are_ranked_as_objects_need(alike, most, monkeypatch):
    """Otherwise thousands of objects take memory that grows with the square of their number."""
    ranked = []
    monkeypatch.setattr(matching, "stable_topk", lambda x, k: ranked.append(k) or stable_topk(x, k))
    boxes = random_boxes(300, 0)
    boxes[:alike] = boxes[0]
    objects = Objects(boxes, torch.arange(300), NO_BOXES)
    anchors = random_boxes(500, 3)
    labels = match_anchors(anchors, objects, **THRESHOLDS).labels
    assert max(ranked) == most
    monkeypatch.setattr(matching, "FIRST_CHOICES", 300)
    assert torch.equal(match_anchors(anchors, objects, **THRESHOLDS).labels, labels)


@pytest.mark.parametrize("chunk_bytes", [2**25, 1])
@pytest.mark.parametrize("seed", range(4))
def test_matching_equals_the_rule(seed, chunk_bytes, monkeypatch):
    monkeypatch.setattr("centermask_solo.ops.chunks.CHUNK_BYTES", chunk_bytes)
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
