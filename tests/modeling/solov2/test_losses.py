from __future__ import annotations

import pytest
import torch

from centermask_solo.modeling.solov2.losses import class_loss, dice_terms, mask_loss
from centermask_solo.modeling.solov2.targets import SOLOv2Targets
from tests.oracles import ops as oracles

GRIDS = [3, 2]


def targets_of(terms, classes, masks, num_images=2, background=4):
    """Targets with the given (image, cell, instance) terms and a class for each (image, cell)."""
    cells = torch.full((num_images, 13), background)
    for (image, cell), k in classes.items():
        cells[image, cell] = k
    terms = torch.tensor(sorted(terms), dtype=torch.int64).reshape(-1, 3)
    return SOLOv2Targets(
        classes=[cells[:, :9].reshape(-1, 3, 3), cells[:, 9:].reshape(-1, 2, 2)],
        num_positive=len(classes),
        term_images=terms[:, 0],
        term_cells=terms[:, 1],
        term_instances=terms[:, 2],
        terms_per_image=torch.bincount(terms[:, 0], minlength=num_images).tolist(),
        masks=masks,
    )


@pytest.fixture
def predictions():
    rng = torch.Generator().manual_seed(0)
    logits = [torch.randn(2, 4, s, s, generator=rng, requires_grad=True) for s in GRIDS]
    kernels = [torch.randn(2, 5, s, s, generator=rng, requires_grad=True) for s in GRIDS]
    features = torch.rand(2, 5, 6, 7, generator=rng, requires_grad=True)
    return logits, kernels, features


@pytest.fixture
def targets():
    masks = torch.rand(3, 6, 7, generator=torch.Generator().manual_seed(1)) > 0.5
    terms = [(0, 4, 0), (0, 4, 1), (0, 12, 1), (1, 10, 2)]  # two instances claim cell 4 of image 0
    return targets_of(terms, {(0, 4): 1, (0, 12): 1, (1, 10): 3}, masks)


def test_each_term_is_its_cells_kernel_against_its_instances_mask(predictions, targets):
    _, kernels, features = predictions
    dice = dice_terms(kernels, features, targets)
    cells = {(0, 4): kernels[0][0, :, 1, 1], (0, 12): kernels[1][0, :, 1, 1], (1, 10): kernels[1][1, :, 0, 1]}
    expected = []
    for image, cell, instance in [(0, 4, 0), (0, 4, 1), (0, 12, 1), (1, 10, 2)]:
        scores = torch.einsum("e,ehw->hw", cells[image, cell], features[image]).sigmoid()
        expected.append(oracles.dice_loss(scores, targets.masks[instance]))
    torch.testing.assert_close(dice, torch.stack(expected))
    torch.testing.assert_close(mask_loss(kernels, features, targets), torch.stack(expected).mean())


def test_the_class_loss_counts_each_positive_cell_once(predictions, targets):
    logits, _, _ = predictions
    rows = torch.cat([x.permute(0, 2, 3, 1).reshape(-1, 4) for x in logits])
    classes = torch.cat([x.flatten() for x in targets.classes])
    expected = oracles.focal_loss_sum(rows, classes, 0.25, 2.0) / (3 + 1)
    assert class_loss(logits, targets, alpha=0.25, gamma=2.0).item() == pytest.approx(expected, rel=1e-5)


def test_a_batch_without_terms_costs_nothing_and_stays_connected(predictions):
    logits, kernels, features = predictions
    empty = targets_of([], {}, torch.zeros(0, 6, 7, dtype=torch.bool))
    mask, classes = mask_loss(kernels, features, empty), class_loss(logits, empty, alpha=0.25, gamma=2.0)
    (mask + classes).backward()
    assert mask.item() == 0
    assert classes.item() > 0
    assert all(not x.grad.any() for x in (*kernels, features))
    assert all(x.grad.all() for x in logits)


def test_half_precision_predictions_give_float32_losses(predictions, targets):
    logits, kernels, features = ([y.bfloat16() for y in x] for x in predictions)
    features = torch.stack(features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = mask_loss(kernels, features, targets), class_loss(logits, targets, alpha=0.25, gamma=2.0)
    exact = [[y.float() for y in x] for x in (kernels, features, logits)]
    assert all(x.dtype == torch.float32 for x in losses)
    torch.testing.assert_close(losses[0], mask_loss(exact[0], torch.stack(exact[1]), targets))
    torch.testing.assert_close(losses[1], class_loss(exact[2], targets, alpha=0.25, gamma=2.0))
