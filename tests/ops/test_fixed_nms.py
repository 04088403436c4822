"""Greedy NMS in a fixed shape."""

from __future__ import annotations

import pytest
import torch
from torch import library

from centermask_solo.ops.fixed_nms import keep_by_fixpoint, nms_operator, suppression_matrix
from centermask_solo.ops.nms import greedy_box_nms
from tests.host_reads import HostReads


def crowd(seed, count=300, objects=12, classes=5):
    """Boxes around a few objects, best first, and their classes."""
    rng = torch.Generator().manual_seed(seed)
    owner = torch.randint(0, objects, (count,), generator=rng)
    centers, sizes = torch.rand(objects, 2, generator=rng) * 900, 20 + torch.rand(objects, 2, generator=rng) * 200
    at = centers[owner] + torch.randn(count, 2, generator=rng) * 0.2 * sizes[owner]
    half = sizes[owner] * torch.exp(0.2 * torch.randn(count, 2, generator=rng)) / 2
    return torch.cat([at - half, at + half], dim=1), torch.randint(0, classes, (objects,), generator=rng)[owner]


def kept(rows, count):
    keep = torch.zeros(count, dtype=torch.bool)
    keep[rows] = True
    return keep


@pytest.mark.parametrize("thresh", [0.3, 0.6])
@pytest.mark.parametrize("with_classes", [True, False])
def test_the_fixpoint_is_greedy_nms(with_classes, thresh, monkeypatch):
    monkeypatch.setattr("centermask_solo.ops.chunks.CHUNK_BYTES", 8 * 5 * 300 * 70)  # 70 rows at a time
    boxes, classes = (torch.stack(x) for x in zip(*(crowd(i) for i in range(3)), strict=True))
    boxes[2, 200:] = 0.0  # fewer candidates
    scores = torch.linspace(1, 0.1, 300)
    given = classes if with_classes else None
    with HostReads(0):
        keep, converged = keep_by_fixpoint(boxes, given, scores.expand(3, -1), thresh)
    assert converged.all()
    for i in range(3):
        count = 200 if i == 2 else 300
        own = classes[i, :count] if with_classes else None
        expected = kept(greedy_box_nms(boxes[i, :count], own, scores[:count], thresh), count)
        assert torch.equal(keep[i, :count], expected) and 5 < expected.sum() < count


def test_a_long_chain_says_that_it_has_not_converged():
    """Each box overlaps its neighbors only, so greedy NMS keeps every other one."""
    left = torch.arange(60.0) * 40
    chain = torch.stack([left, torch.zeros(60), left + 100, torch.ones(60) * 50], dim=1)[None]
    scores = torch.linspace(1, 0.5, 60)[None]
    assert keep_by_fixpoint(chain, None, scores, 0.4, max_steps=20)[1].tolist() == [False]
    keep, converged = keep_by_fixpoint(chain, None, scores, 0.4, max_steps=61)
    assert converged.tolist() == [True] and keep[0].tolist() == [True, False] * 30


def test_each_box_is_suppressed_by_better_ones_of_its_class():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 8], [0, 0, 0, 0], [0, 0, 0, 0]])[None]
    classes = torch.tensor([[1, 0, 1, 0, 0]])
    assert suppression_matrix(boxes, None, 0.75)[0].nonzero().tolist() == [[1, 0], [2, 0], [2, 1]]
    assert suppression_matrix(boxes, classes, 0.75)[0].nonzero().tolist() == [[2, 0]]


def test_the_operator_is_greedy_nms_of_every_class():
    boxes, classes = crowd(0, classes=3)
    scores = torch.linspace(1, 0.1, 300)
    class_scores = torch.where(classes == torch.arange(3)[:, None], scores, 0.0)[None]
    keep = nms_operator(boxes[None], class_scores, 0.5)
    expected = kept(greedy_box_nms(boxes, classes, scores, 0.5), 300)
    assert keep.shape == (1, 3, 300) and torch.equal(keep.any(dim=1)[0], expected)
    library.opcheck(nms_operator, (boxes[None], class_scores, 0.5), test_utils=("test_schema", "test_faketensor"))
