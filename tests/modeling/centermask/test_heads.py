import math

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads import MaskRCNNConvUpsampleHead
from torch import nn
from torch.nn import functional as F

from centermask_solo.modeling.centermask.heads import (
    MaskIoUHead,
    SpatialAttention,
    SpatialAttentionMaskHead,
    predict_class_masks,
)

K = 5


def test_spatial_attention_by_hand():
    attention = SpatialAttention()
    attention.conv.weight.data[0, 0, 1, 1] = 1.0  # the mean
    attention.conv.weight.data[0, 1, 1, 1] = 10.0  # the maximum
    x = torch.tensor([1.0, 3.0]).view(1, 2, 1, 1)
    assert torch.allclose(attention(x), x * torch.sigmoid(torch.tensor(2.0 + 30.0)))
    attention.conv.weight.data[0, 1] = 0
    assert torch.allclose(attention(x), x * torch.sigmoid(torch.tensor(2.0)))


def test_an_untrained_attention_is_half_open_and_trains():
    attention = SpatialAttention()
    x = 10 * torch.rand(3, 8, 14, 14)
    out = attention(x)
    assert torch.allclose(out, x / 2)
    out.sum().backward()
    assert (attention.conv.weight.grad != 0).all()


def mask_head(num_classes=K):
    return SpatialAttentionMaskHead(
        ShapeSpec(channels=8, height=14, width=14), num_classes=num_classes, conv_dims=[16, 16, 16]
    )


def test_mask_head_has_the_published_names():
    expected = {"mask_fcn1", "mask_fcn2", "deconv", "predictor"}
    assert set(mask_head().state_dict()) == {f"{n}.{p}" for n in expected for p in ("weight", "bias")} | {
        "spatialAtt.conv.weight"
    }


@pytest.mark.parametrize("num_classes", [K, 1])
@pytest.mark.parametrize("kind", [SpatialAttentionMaskHead, MaskRCNNConvUpsampleHead])
def test_one_class_equals_that_class_of_all(num_classes, kind):
    torch.manual_seed(0)
    head = kind(ShapeSpec(channels=8, height=14, width=14), num_classes=num_classes, conv_dims=[16, 16])
    nn.init.normal_(head.predictor.weight)
    nn.init.normal_(head.predictor.bias)
    x, classes = torch.randn(6, 8, 14, 14), torch.tensor([4, 0, 2, 2, 1, 3])
    every = head.layers(x)
    assert every.shape == (6, num_classes, 28, 28)
    expected = every[torch.arange(6), classes if num_classes > 1 else torch.zeros_like(classes)]
    got = predict_class_masks(head, x, classes)
    assert torch.allclose(got, expected, atol=1e-5)
    own = torch.autograd.grad(got.square().sum(), list(head.parameters()))
    reference = torch.autograd.grad(expected.square().sum(), list(head.parameters()))
    for a, b in zip(own, reference, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-3)


def test_the_gradient_of_one_class_has_the_memory_layout_of_the_features(monkeypatch):
    head = mask_head().to(memory_format=torch.channels_last)
    mask_features, gradients = head.mask_features, []

    def watched(x):
        out = mask_features(x)
        out.register_hook(gradients.append)
        return out

    monkeypatch.setattr(head, "mask_features", watched)
    x = torch.randn(3, 8, 14, 14).contiguous(memory_format=torch.channels_last)
    predict_class_masks(head, x, torch.tensor([0, 1, 1])).sum().backward()
    assert [g.is_contiguous(memory_format=torch.channels_last) for g in gradients] == [True]


def test_heads_work_without_rois():
    empty, classes = torch.zeros(0, 8, 14, 14), torch.zeros(0, dtype=torch.int64)
    head, iou_head = mask_head(), mask_iou_head()
    masks = predict_class_masks(head, empty, classes)
    ious = iou_head(empty, masks.sigmoid(), classes)
    assert masks.shape == (0, 28, 28) and ious.shape == (0,)
    (masks.sum() + ious.sum()).backward()
    for p in [*head.parameters(), *iou_head.parameters()]:
        assert p.grad is not None and (p.grad == 0).all()


def mask_iou_head(**options):
    shape = ShapeSpec(channels=8, height=14, width=14)
    return MaskIoUHead(shape, num_classes=K, num_convs=2, conv_dim=16, fc_dim=32, **options)


def test_mask_iou_head_has_the_published_names_and_shapes():
    shapes = {k: tuple(v.shape) for k, v in mask_iou_head().state_dict().items() if k.endswith("weight")}
    assert shapes == {
        "maskiou_fcn1.weight": (16, 9, 3, 3),  # features of 8 channels, another width than its own, and the mask
        "maskiou_fcn2.weight": (16, 16, 3, 3),
        "maskiou_fc1.weight": (32, 16 * 7 * 7),
        "maskiou_fc2.weight": (32, 32),
        "maskiou.weight": (K, 32),
    }


def test_mask_iou_head_is_the_definition():
    torch.manual_seed(0)
    head = mask_iou_head()
    nn.init.normal_(head.maskiou.weight)
    x, masks, classes = torch.randn(3, 8, 14, 14), torch.rand(3, 28, 28), torch.tensor([1, 4, 0])
    h = torch.cat([x, F.max_pool2d(masks[:, None], 2, 2)], 1)
    h = F.relu(head.maskiou_fcn1(h))
    h = F.relu(F.conv2d(h, head.maskiou_fcn2.weight, head.maskiou_fcn2.bias, stride=2, padding=1))
    h = F.relu(head.maskiou_fc2(F.relu(head.maskiou_fc1(h.reshape(3, -1)))))
    every = head.maskiou(h)
    assert torch.allclose(head(x, masks, classes), every[torch.arange(3), classes], atol=1e-5)
    agnostic = mask_iou_head(class_agnostic=True)
    agnostic.load_state_dict(head.state_dict())
    assert torch.allclose(agnostic(x, masks, classes), every[:, 0], atol=1e-5)


def test_scores_of_masks_depend_on_a_power_of_the_iou():
    ious = torch.tensor([0.25, 0.81, -0.1, math.nan])
    assert mask_iou_head().factor(ious).tolist() == pytest.approx([0.25, 0.81, -0.1, 0])  # as published
    assert mask_iou_head(exponent=0.5).factor(ious).tolist() == pytest.approx([0.5, 0.9, 0, 0])
    assert mask_iou_head(exponent=0.0).factor(ious[:2]).tolist() == [1, 1]
