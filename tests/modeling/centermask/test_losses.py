import math

import pytest
import torch
from torch.nn import functional as F

from centermask_solo.modeling.centermask import losses as module
from centermask_solo.modeling.centermask.losses import (
    average_over_processes,
    fcos_losses,
    giou_loss,
    iou_loss,
    linear_iou_loss,
    mask_iou_loss,
    mask_loss,
)
from centermask_solo.modeling.centermask.targets import FCOSTargets, centerness_targets

K = 3
OPTIONS = {"focal_alpha": 0.25, "focal_gamma": 2.0, "box_loss_type": "giou"}


def predictions(num_images=2, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    sizes = [(3, 4), (2, 2)]
    return tuple(
        [torch.randn(num_images, c, *s, generator=generator).to(dtype).requires_grad_() for s in sizes]
        for c in (K, 4, 1)
    )


def with_positive_boxes(parts):
    classes, ltrb, centerness = parts
    return classes, [x.detach().abs().requires_grad_() for x in ltrb], centerness


def targets(num_images=2, positives=5):
    generator = torch.Generator().manual_seed(1)
    classes = torch.full((num_images, 16), K)
    classes.view(-1)[torch.randperm(num_images * 16, generator=generator)[:positives]] = 1
    ltrb = (torch.rand(num_images, 16, 4, generator=generator) * 3 + 0.1) * (classes < K)[..., None]
    return FCOSTargets(classes, ltrb, centerness_targets(ltrb))


def test_box_losses_by_hand():
    """Around one point: predicted 2 x 2, wanted 4 x 2 of which the predicted is the left half."""
    pred, target = torch.tensor([[1.0, 1.0, 1.0, 1.0]]), torch.tensor([[1.0, 1.0, 3.0, 1.0]])
    iou = (4 + 1) / (8 + 1)  # with the 1 of the authors' code
    assert linear_iou_loss(pred, target).tolist() == pytest.approx([1 - iou])
    assert iou_loss(pred, target).tolist() == pytest.approx([-math.log(iou)])
    assert giou_loss(pred, target).tolist() == pytest.approx([1 - iou])  # the hull is the union
    shifted = torch.tensor([[2.0, 0.5, 1.0, 1.0]])  # 3 x 1.5, 2 x 1.5 in common
    inter, union, hull = 2 * 1.5, 4 * 2 + 3 * 1.5 - 2 * 1.5, 5 * 2
    expected = 1 - ((inter + 1) / (union + 1) - (hull - union) / hull)
    assert giou_loss(shifted, target).tolist() == pytest.approx([expected])


def test_an_empty_predicted_box_has_a_finite_loss_and_gradient():
    pred = torch.zeros(1, 4, requires_grad=True)
    for loss in (giou_loss, iou_loss, linear_iou_loss):
        value = loss(pred, torch.ones(1, 4))
        value.sum().backward()
        assert value.isfinite().all()
    assert pred.grad.isfinite().all()


def test_fcos_losses_are_the_definition():
    classes, ltrb, centerness = parts = with_positive_boxes(predictions())
    wanted = targets()
    got = fcos_losses(*parts, wanted, **OPTIONS)
    flat = torch.cat([x.flatten(2) for x in classes], 2).transpose(1, 2).reshape(-1, K)
    labels = wanted.classes.flatten()
    one_hot = F.one_hot(labels, K + 1)[:, :K].float()
    p = flat.sigmoid()
    p_t, alpha_t = p * one_hot + (1 - p) * (1 - one_hot), 0.25 * one_hot + 0.75 * (1 - one_hot)
    focal = -(alpha_t * (1 - p_t) ** 2 * p_t.log()).sum() / 5
    assert got["loss_fcos_cls"].item() == pytest.approx(focal.item(), rel=1e-5)
    rows = labels < K
    weight = wanted.centerness.flatten()[rows]
    boxes = torch.cat([x.flatten(2) for x in ltrb], 2).transpose(1, 2).reshape(-1, 4)[rows]
    giou = giou_loss(boxes, wanted.ltrb.reshape(-1, 4)[rows])
    assert got["loss_fcos_loc"].item() == pytest.approx((giou * weight).sum().item() / weight.sum().item(), rel=1e-5)
    quality = torch.cat([x.flatten(2) for x in centerness], 2).flatten()[rows].sigmoid()
    bce = -(weight * quality.log() + (1 - weight) * (1 - quality).log()).sum() / 5
    assert got["loss_fcos_ctr"].item() == pytest.approx(bce.item(), rel=1e-5)


def test_without_positives_the_losses_are_zero_but_connected():
    parts = with_positive_boxes(predictions())
    got = fcos_losses(*parts, targets(positives=0), **OPTIONS)
    assert got["loss_fcos_loc"] == 0 and got["loss_fcos_ctr"] == 0 and got["loss_fcos_cls"] > 0
    sum(got.values()).backward()
    for part in parts:
        assert all(x.grad is not None and x.grad.isfinite().all() for x in part)
    assert all((x.grad == 0).all() for part in parts[1:] for x in part)


def test_losses_are_float32_of_half_precision_inputs():
    parts = with_positive_boxes(predictions())
    halves = [[x.detach().bfloat16() for x in part] for part in parts]
    exact = fcos_losses(*[[x.float() for x in part] for part in halves], targets(), **OPTIONS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = fcos_losses(*halves, targets(), **OPTIONS)
    for name, value in got.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(exact[name].item(), rel=1e-5), name


def test_normalizers_are_averaged_over_processes_in_one_message(monkeypatch):
    """A second process without positives: its twin's normalizers are halved."""
    messages = []
    monkeypatch.setattr(module.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda x: messages.append(x.clone()))
    parts, wanted = with_positive_boxes(predictions()), targets()
    halved = fcos_losses(*parts, wanted, **OPTIONS)
    assert [m.tolist() for m in messages] == [pytest.approx([2.5, wanted.centerness.sum().item() / 2])]
    monkeypatch.setattr(module.comm, "get_world_size", lambda: 1)
    alone = fcos_losses(*parts, wanted, **OPTIONS)
    assert len(messages) == 1
    for name in alone:
        assert halved[name].item() == pytest.approx(2 * alone[name].item(), rel=1e-5)


def test_a_single_process_sends_nothing():
    values = torch.tensor([3.0, 1.5])
    assert average_over_processes(values) is values


def test_mask_loss_is_the_mean_and_zero_without_rois():
    logits = torch.tensor([[[0.0, 2.0], [-1.0, 3.0]]], requires_grad=True)
    wanted = torch.tensor([[[True, True], [False, False]]])
    expected = F.binary_cross_entropy_with_logits(logits, wanted.float())
    assert mask_loss(logits, wanted).item() == pytest.approx(expected.item())
    empty = torch.zeros(0, 28, 28, requires_grad=True)
    loss = mask_loss(empty, torch.zeros(0, 28, 28, dtype=torch.bool))
    loss.backward()
    assert loss == 0 and empty.grad is not None


def test_mask_iou_loss_leaves_out_targets_of_zero():
    pred = torch.tensor([0.5, 9.0, 1.0], requires_grad=True)
    loss = mask_iou_loss(pred, torch.tensor([0.9, 0.0, 0.4]))
    assert loss.item() == pytest.approx(0.5 * (0.4**2 + 0.6**2) / 2)
    loss.backward()
    assert pred.grad[1] == 0 and pred.grad[0] != 0


@pytest.mark.parametrize("count", [0, 2])
def test_mask_iou_loss_of_nothing_is_zero_but_connected(count):
    pred = torch.ones(count, requires_grad=True)
    loss = mask_iou_loss(pred, torch.zeros(count))
    loss.backward()
    assert loss == 0 and pred.grad is not None
