import pytest
import torch
from torch.nn import functional as F

from centermask_solo.modeling.centermask.losses import mask_iou_loss, mask_loss


def test_mask_loss_is_the_mean_and_zero_without_rois():
    logits = torch.tensor([[[0.0, 2.0], [-1.0, 3.0]]], requires_grad=True)
    target = torch.tensor([[[True, True], [False, False]]])
    expected = F.binary_cross_entropy_with_logits(logits, target.float())
    assert mask_loss(logits, target).item() == pytest.approx(expected.item())
    empty = torch.zeros(0, 28, 28, requires_grad=True)
    loss = mask_loss(empty, torch.zeros(0, 28, 28, dtype=torch.bool))
    loss.backward()
    assert loss == 0 and empty.grad is not None


def test_mask_iou_loss_ignores_targets_of_zero():
    pred = torch.tensor([0.5, 9.0, 1.0], requires_grad=True)
    loss = mask_iou_loss(pred, torch.tensor([0.9, 0.0, 0.4]))
    assert loss.item() == pytest.approx(0.5 * (0.4**2 + 0.6**2) / 2)
    loss.backward()
    assert pred.grad[1] == 0 and pred.grad[0] != 0


@pytest.mark.parametrize("count", [0, 2])
def test_mask_iou_loss_without_targets_is_zero_but_connected(count):
    pred = torch.ones(count, requires_grad=True)
    loss = mask_iou_loss(pred, torch.zeros(count))
    loss.backward()
    assert loss == 0 and pred.grad is not None
