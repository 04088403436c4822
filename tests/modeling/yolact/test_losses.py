from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling.box_regression import Box2BoxTransform

from centermask_solo.modeling.semantic import semantic_loss
from centermask_solo.modeling.yolact.heads import YOLACTMaskIoUHead
from centermask_solo.modeling.yolact.losses import box_loss, class_loss, mask_iou_loss, mask_iou_terms, mask_loss
from centermask_solo.modeling.yolact.targets import YOLACTTargets
from tests.oracles import yolact as oracles


def targets_of(boxes, gt_masks, instances, images, anchors, num_images=2, num_anchors=12, num_classes=3, weights=None):
    """Targets with these positives, all of them mask terms."""
    labels = torch.zeros(num_images, num_anchors, dtype=torch.int64)
    images, anchors, instances = (torch.tensor(x, dtype=torch.int64) for x in (images, anchors, instances))
    classes = torch.arange(len(boxes)) % num_classes
    labels[images, anchors] = classes[instances] + 1
    return YOLACTTargets(
        labels=labels,
        images=images,
        anchors=anchors,
        instances=instances,
        negatives=torch.zeros_like(labels, dtype=torch.bool),
        num_negatives=0,
        mask_terms=torch.arange(len(images)),
        mask_weights=torch.ones(len(images)) if weights is None else torch.tensor(weights),
        terms_per_image=images.bincount(minlength=num_images).tolist(),
        boxes=boxes,
        classes=classes,
        masks=gt_masks,
        sem_seg=torch.zeros(num_images, num_classes, 4, 4, dtype=torch.bool),
    )


@pytest.fixture
def case():
    rng = torch.Generator().manual_seed(0)
    boxes = torch.tensor([[0.125, 0.25, 0.625, 0.75], [0.0, 0.0, 1.0, 1.0], [0.5625, 0.5, 0.875, 0.75]])
    gt_masks = torch.rand(3, 10, 14, generator=rng) < 0.4
    targets = targets_of(boxes, gt_masks, [0, 2, 1, 1], [0, 0, 1, 1], [3, 5, 0, 11], weights=[1.0, 2.0, 1.0, 1.5])
    coefficients = (torch.rand(2, 12, 5, generator=rng) * 2 - 1).requires_grad_()
    prototypes = torch.rand(2, 5, 10, 14, generator=rng).requires_grad_()
    return coefficients, prototypes, targets


def test_box_loss_equals_that_of_detectron2s_deltas(case):
    targets, transform = case[2], Box2BoxTransform(weights=(10.0, 9.0, 5.0, 4.0))
    corners = torch.rand(12, 2)
    anchors = torch.cat([corners, corners + 0.1 + torch.rand(12, 2)], dim=1)
    deltas = torch.randn(2, 12, 4)
    expected = transform.get_deltas(anchors[targets.anchors], targets.boxes[targets.instances])
    found = deltas[targets.images, targets.anchors]
    got = box_loss(deltas, anchors, targets, transform)
    assert torch.equal(got, F.smooth_l1_loss(found, expected, reduction="sum") / 4)


def test_mask_loss_equals_the_formula(case):
    """Divided by the positives, of which there are four."""
    coefficients, prototypes, targets = case
    expected = 0.0
    for i in range(2):
        rows = (targets.images == i).nonzero()[:, 0]
        instances = targets.instances[rows]
        terms = oracles.box_mask_loss(
            coefficients[i, targets.anchors[rows]], prototypes[i], targets.boxes[instances].tolist(),
            targets.masks[instances],
        )  # fmt: skip
        expected += sum(w * x for w, x in zip(targets.mask_weights[rows].tolist(), terms, strict=True))
    assert mask_loss(coefficients, prototypes, targets).item() == pytest.approx(expected / 4, rel=1e-5)


def test_pixels_outside_of_the_box_have_no_effect(case):
    coefficients, prototypes, targets = case
    only_first = targets._replace(
        mask_terms=targets.mask_terms[:1], mask_weights=targets.mask_weights[:1], terms_per_image=[1, 0]
    )
    mask_loss(coefficients, prototypes, only_first).backward()
    # Columns 0.125 * 14 - 1 = 0.75 to 0.625 * 14 + 1 = 9.75, rows 0.25 * 10 - 1 = 1.5 to 0.75 * 10 + 1 = 8.5.
    inside = torch.zeros(10, 14, dtype=torch.bool)
    inside[2:9, 1:10] = True
    reached = prototypes.grad[0].abs().sum(0) > 0
    assert torch.equal(reached, inside)
    assert not prototypes.grad[1].any()


def test_mask_loss_has_a_gradient_where_probabilities_saturate(case):
    _, prototypes, targets = case
    coefficients = torch.full((2, 12, 5), -60.0, requires_grad=True)
    mask_loss(coefficients, prototypes, targets).backward()
    assert coefficients.grad[0, 3].abs().max() > 0.1 / 4
    assert coefficients.grad.isfinite().all()


def test_class_loss_sees_positives_and_mined_negatives_alone(case):
    targets = case[2]._replace(num_negatives=1)
    logits = torch.randn(2, 12, 4, requires_grad=True)
    targets.negatives[1, 4] = True
    rows = [(0, 3, 1), (0, 5, 3), (1, 0, 2), (1, 11, 2), (1, 4, 0)]
    expected = sum(-logits[i, j].log_softmax(0)[k] for i, j, k in rows)
    got = class_loss(logits, targets)
    torch.testing.assert_close(got, expected / 4)
    got.backward()
    assert (logits.grad.abs().sum(2) > 0).sum() == len(rows)


def test_sem_seg_loss_is_a_mean_over_images_and_pixels_and_a_sum_over_classes(case):
    gt = torch.rand(2, 3, 4, 4) < 0.3
    logits = torch.randn(2, 3, 4, 4) * 5
    expected = F.binary_cross_entropy_with_logits(logits, gt.float(), reduction="sum") / 16 / 2
    torch.testing.assert_close(semantic_loss(logits, gt), expected)
    assert semantic_loss(torch.full((1, 1, 2, 2), -1e4), torch.ones(1, 1, 2, 2).bool()) == 1e4


def loss_of_mask_ious(head, coefficients, prototypes, targets, min_area):
    terms = mask_iou_terms(coefficients, prototypes, targets, min_area)
    return mask_iou_loss(head(terms.masks, targets.classes[terms.instances]), terms, targets)


def test_mask_iou_loss_skips_small_truths_and_reaches_the_masks():
    torch.manual_seed(0)
    boxes = torch.tensor([[0.1, 0.1, 0.9, 0.9], [0.3, 0.3, 0.6, 0.6]])
    gt_masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    gt_masks[0, 10:50, 10:50] = True
    gt_masks[1, :5, :5] = True  # 25 pixels: not more than 25
    targets = targets_of(boxes, gt_masks, [0, 1], [0, 0], [2, 4], num_images=1)
    coefficients = torch.randn(1, 12, 5, requires_grad=True)
    prototypes = torch.rand(1, 5, 64, 64, requires_grad=True)
    head = YOLACTMaskIoUHead(num_classes=3)
    loss = loss_of_mask_ious(head, coefficients, prototypes, targets, 25)
    loss.backward()
    assert coefficients.grad[0, 2].any()
    assert not coefficients.grad[0, 4].any()
    assert prototypes.grad.any()

    logits = (coefficients[0, 2].detach()[:, None, None] * prototypes[0].detach()).sum(0)
    inside = torch.zeros(64, 64, dtype=torch.bool)
    inside[6:59, 6:59] = True  # 6.4 - 1 to 57.6 + 1
    probabilities = torch.where(inside, logits.sigmoid(), 0.0)
    found = probabilities > 0.5
    target = (found & gt_masks[0]).sum() / (found | gt_masks[0]).sum()
    predicted = head(probabilities[None], torch.tensor([0]))[0]
    torch.testing.assert_close(loss, F.smooth_l1_loss(predicted, target) / 2)  # two positives


def test_an_empty_mask_and_an_empty_truth_have_no_overlap():
    targets = targets_of(torch.tensor([[0.1, 0.1, 0.9, 0.9]]), torch.zeros(1, 64, 64).bool(), [0], [0], [0], 1)
    head = YOLACTMaskIoUHead(num_classes=3)
    loss = loss_of_mask_ious(head, torch.full((1, 12, 5), -9.0), torch.ones(1, 5, 64, 64), targets, -1)
    assert loss.isfinite()
