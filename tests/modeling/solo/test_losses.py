from __future__ import annotations

import pytest
import torch

from centermask_solo.modeling.solo.losses import dice_terms, mask_loss
from centermask_solo.modeling.solo.targets import SOLOTargets
from tests.modeling.solo.random_predictions import GRIDS, KINDS, STRIDES, random_predictions
from tests.oracles import ops
from tests.oracles import solo as oracles

CELLS = [[[3, 7, 24], [11]], [[], []], [[], [0, 8]]]  # of each level and image


@pytest.fixture
def targets():
    rng = torch.Generator().manual_seed(1)
    sizes = [(2 * 64 // s, 2 * 96 // s) for s in STRIDES]
    masks = [torch.rand(4, *size, generator=rng) > 0.5 for size in sizes]
    cells = [c for level in CELLS for image in level for c in image]
    return SOLOTargets(
        classes=[torch.full((2, s, s), 4) for s in GRIDS],
        num_positive=len(cells),
        cells=torch.tensor(cells),
        mask_rows=torch.tensor([0, 3, 1, 2, 0, 0]),
        counts=[[len(image) for image in level] for level in CELLS],
        masks=masks,
    )


def with_gradients(kind):
    predictions = random_predictions(kind, num_images=2)
    inputs = [x.requires_grad_() for maps in predictions for x in maps]
    return predictions, inputs


def literal_terms(predictions, targets):
    """Each cell's own map, of all that there are, against its mask."""
    terms, rows = [], iter(targets.mask_rows.tolist())
    for level, of_images in enumerate(CELLS):
        for image, cells in enumerate(of_images):
            maps = [x.sigmoid() for x in oracles.factors(predictions, image, level)]
            scores = maps[0] if len(maps) == 1 else maps[0] * maps[1]
            terms += [ops.dice_loss(scores[cell], targets.masks[level][next(rows)]) for cell in cells]
    return torch.stack(terms)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk_terms", [1, 2, 100])
def test_every_cell_has_one_term_and_all_weigh_the_same(monkeypatch, kind, targets, chunk_terms):
    monkeypatch.setattr("centermask_solo.ops.chunks.CHUNK_BYTES", 16 * 16 * 24 * chunk_terms)
    predictions, inputs = with_gradients(kind)
    expected = literal_terms(predictions, targets)
    torch.testing.assert_close(dice_terms(predictions, targets), expected)
    expected_gradients = torch.autograd.grad(expected.mean(), inputs, allow_unused=True, materialize_grads=True)
    loss = mask_loss(predictions, targets)
    torch.testing.assert_close(loss, expected.mean())
    gradients = torch.autograd.grad(loss, inputs, allow_unused=True)
    classes = len(GRIDS)
    assert all(g is None for g in gradients[:classes])  # of the class logits
    for got, wanted in zip(gradients[classes:], expected_gradients[classes:], strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-7)  # level 1 has no term, but is connected


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_without_terms_is_zero_and_connected(kind, targets):
    predictions, inputs = with_gradients(kind)
    nothing = targets._replace(
        num_positive=0, cells=torch.zeros(0).long(), mask_rows=torch.zeros(0).long(), counts=[[0, 0]] * 3
    )
    loss = mask_loss(predictions, nothing)
    assert loss.item() == 0 and loss.dtype == torch.float32
    gradients = torch.autograd.grad(loss, inputs[len(GRIDS) :])
    assert not any(g.any() for g in gradients)


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_computes_in_float32(kind, targets):
    """Small probabilities, whose product bfloat16 would round away."""
    predictions, _ = with_gradients(kind)
    exact = dice_terms(predictions, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(dice_terms(predictions, targets), exact)
