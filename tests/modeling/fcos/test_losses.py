import math

import pytest
import torch
from torch.nn import functional as F

from centermask_solo.modeling.fcos.losses import fcos_losses, giou_loss, iou_loss, linear_iou_loss
from centermask_solo.modeling.fcos.targets import FCOSTargets, centerness_targets

K = 3
OPTIONS = {"focal_alpha": 0.25, "focal_gamma": 2.0, "box_loss_type": "giou"}


def losses_of(parts, expected):
    """Return the losses normalized by the batch itself."""
    positive = (expected.classes < K).sum().float().clamp(min=1)
    total = expected.centerness.sum().clamp(min=1e-6)
    return fcos_losses(*parts, expected, num_positive=positive, centerness_sum=total, **OPTIONS)


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
    """Around one point: predicted 2 x 2, target 4 x 2, of which the prediction is the left half."""
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
    expected = targets()
    got = losses_of(parts, expected)
    flat = torch.cat([x.flatten(2) for x in classes], 2).transpose(1, 2).reshape(-1, K)
    labels = expected.classes.flatten()
    one_hot = F.one_hot(labels, K + 1)[:, :K].float()
    p = flat.sigmoid()
    p_t, alpha_t = p * one_hot + (1 - p) * (1 - one_hot), 0.25 * one_hot + 0.75 * (1 - one_hot)
    focal = -(alpha_t * (1 - p_t) ** 2 * p_t.log()).sum() / 5
    assert got["loss_fcos_cls"].item() == pytest.approx(focal.item(), rel=1e-5)
    rows = labels < K
    weight = expected.centerness.flatten()[rows]
    boxes = torch.cat([x.flatten(2) for x in ltrb], 2).transpose(1, 2).reshape(-1, 4)[rows]
    giou = giou_loss(boxes, expected.ltrb.reshape(-1, 4)[rows])
    assert got["loss_fcos_loc"].item() == pytest.approx((giou * weight).sum().item() / weight.sum().item(), rel=1e-5)
    quality = torch.cat([x.flatten(2) for x in centerness], 2).flatten()[rows].sigmoid()
    bce = -(weight * quality.log() + (1 - weight) * (1 - quality).log()).sum() / 5
    assert got["loss_fcos_ctr"].item() == pytest.approx(bce.item(), rel=1e-5)


def test_without_positives_the_losses_are_zero_but_connected():
    parts = with_positive_boxes(predictions())
    got = losses_of(parts, targets(positives=0))
    assert got["loss_fcos_loc"] == 0 and got["loss_fcos_ctr"] == 0 and got["loss_fcos_cls"] > 0
    sum(got.values()).backward()
    for part in parts:
        assert all(x.grad is not None and x.grad.isfinite().all() for x in part)
    assert all((x.grad == 0).all() for part in parts[1:] for x in part)


def test_losses_are_float32_of_half_precision_inputs():
    parts = with_positive_boxes(predictions())
    halves = [[x.detach().bfloat16() for x in part] for part in parts]
    exact = losses_of([[x.float() for x in part] for part in halves], targets())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = losses_of(halves, targets())
    for name, value in got.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(exact[name].item(), rel=1e-5), name


def test_the_normalizers_are_arguments():
    parts, expected = with_positive_boxes(predictions()), targets()
    plain = losses_of(parts, expected)
    numbers = {"num_positive": torch.tensor(50.0), "centerness_sum": 2 * expected.centerness.sum()}
    scaled = fcos_losses(*parts, expected, **numbers, **OPTIONS)
    assert scaled["loss_fcos_cls"].item() == pytest.approx(plain["loss_fcos_cls"].item() / 10, rel=1e-5)
    assert scaled["loss_fcos_loc"].item() == pytest.approx(plain["loss_fcos_loc"].item() / 2, rel=1e-5)
    assert scaled["loss_fcos_ctr"].item() == pytest.approx(plain["loss_fcos_ctr"].item() / 10, rel=1e-5)
