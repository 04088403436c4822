import math

import pytest
import torch

from centermask_solo.ops.losses import _DynamicMaskDice, dynamic_mask_dice_loss, sigmoid_focal_loss_sum
from tests.oracles import ops as oracles


@pytest.fixture
def terms():
    """Seven kernels on 5-channel features of 30 pixels, whose masks are three, one of them empty."""
    rng = torch.Generator().manual_seed(0)
    kernels = torch.randn(7, 5, generator=rng, requires_grad=True)
    features = torch.randn(5, 30, generator=rng, requires_grad=True)
    masks = torch.rand(3, 30, generator=rng) > 0.5
    masks[1] = False
    return kernels, features, masks, torch.tensor([0, 2, 2, 1, 0, 2, 1])


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.5, 1.5), (0.25, 0.0)])
@pytest.mark.parametrize("num_classes", [1, 4])
def test_focal_loss_equals_its_definition(alpha, gamma, num_classes):
    logits = torch.randn(20, num_classes, generator=torch.Generator().manual_seed(1)) * 3
    classes = torch.arange(20) % (num_classes + 1)  # the last is background
    expected = oracles.focal_loss_sum(logits, classes, alpha, gamma)
    assert sigmoid_focal_loss_sum(logits, classes, alpha, gamma).item() == pytest.approx(expected, rel=1e-5)
    batched = sigmoid_focal_loss_sum(logits.view(4, 5, num_classes), classes.view(4, 5), alpha, gamma)
    assert batched.item() == pytest.approx(expected, rel=1e-5)


def test_focal_loss_by_hand():
    # p = 1/2 everywhere: each entry costs weight * (1/2)^2 * ln 2.
    loss = sigmoid_focal_loss_sum(torch.zeros(2, 3), torch.tensor([1, 3]), alpha=0.25, gamma=2.0)
    assert loss.item() == pytest.approx((0.25 + 5 * 0.75) * 0.25 * math.log(2))


def test_focal_loss_of_extreme_logits_is_finite():
    logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4]], requires_grad=True)
    loss = sigmoid_focal_loss_sum(logits, torch.tensor([0, 0]))
    loss.backward()
    assert loss.item() == pytest.approx(0.25 * 1e4 + 0.75 * 1e4)
    assert logits.grad.isfinite().all()


def test_focal_loss_of_nothing_is_zero_and_connected():
    logits = torch.zeros(0, 4, requires_grad=True)
    loss = sigmoid_focal_loss_sum(logits, torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.shape == (0, 4)


def test_focal_loss_is_float32_in_half_precision():
    logits = torch.randn(3000, 80, generator=torch.Generator().manual_seed(2)).bfloat16()
    classes = torch.arange(3000) % 81
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = sigmoid_focal_loss_sum(logits, classes)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, sigmoid_focal_loss_sum(logits.float(), classes))


@pytest.mark.parametrize("chunk_floats", [1, 90, 10**6], ids=["one term a chunk", "three", "all"])
def test_dice_and_its_gradients_equal_the_definition(terms, chunk_floats, monkeypatch):
    monkeypatch.setattr("centermask_solo.ops.chunks.CHUNK_BYTES", 4 * chunk_floats)
    kernels, features, masks, index = terms
    weights = torch.arange(1.0, 8)
    loss = dynamic_mask_dice_loss(kernels, features, masks, index)
    gradients = torch.autograd.grad((loss * weights).sum(), (kernels, features))

    scores = (kernels @ features).sigmoid()
    expected = torch.stack([oracles.dice_loss(p, masks[i]) for p, i in zip(scores, index, strict=True)])
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradients, torch.autograd.grad((expected * weights).sum(), (kernels, features)))


def test_dice_gradients_in_double_precision(terms):
    kernels, features, masks, index = terms
    kernels, features = (x.detach().double().requires_grad_() for x in (kernels, features))
    assert torch.autograd.gradcheck(lambda k, f: _DynamicMaskDice.apply(k, f, masks, index, 2), (kernels, features))


def test_dice_by_hand():
    features = torch.tensor([[100.0, 100.0, -100.0, -100.0]])  # probabilities 1, 1, 0, 0
    masks = torch.tensor([[True, True, False, False], [True, False, True, False], [False] * 4])
    loss = dynamic_mask_dice_loss(torch.ones(3, 1), features, masks, torch.arange(3))
    assert loss.tolist() == pytest.approx([1 - 4 / 4.002, 1 - 2 / 4.002, 1], abs=1e-6)


def test_dice_of_nothing_is_empty_and_connected(terms):
    _, features, masks, index = terms
    kernels = torch.zeros(0, 5, requires_grad=True)
    loss = dynamic_mask_dice_loss(kernels, features, masks, index[:0])
    loss.sum().backward()
    assert loss.shape == (0,)
    assert kernels.grad.shape == (0, 5)
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_dice_is_float32_in_half_precision():
    """Sums over 67,000 pixels would lose their last digits in bfloat16."""
    rng = torch.Generator().manual_seed(3)
    kernels, features = torch.randn(2, 8, generator=rng).bfloat16(), torch.randn(8, 67_000, generator=rng).bfloat16()
    masks, index = torch.rand(2, 67_000, generator=rng) > 0.5, torch.arange(2)
    kernels.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = dynamic_mask_dice_loss(kernels, features, masks, index)
    loss.sum().backward()
    assert loss.dtype == torch.float32
    assert kernels.grad.dtype == torch.bfloat16
    torch.testing.assert_close(loss, dynamic_mask_dice_loss(kernels.float(), features.float(), masks, index))
