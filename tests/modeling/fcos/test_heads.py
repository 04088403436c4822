import math

import torch
from torch import nn

from centermask_solo.modeling.fcos import FCOSHead

C, K = 32, 5


def fcos_head(**options):
    return FCOSHead(
        in_channels=C, num_levels=2, num_classes=K, **({"num_class_convs": 2, "num_box_convs": 1} | options)
    )


def features(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, C, *s, generator=generator) for s in [(4, 5), (2, 3)]]


def test_fcos_head_has_the_published_names():
    keys = set(fcos_head().state_dict())
    towers = {f"cls_tower.{i}.{p}" for i in (0, 1, 3, 4) for p in ("weight", "bias")}
    towers |= {f"bbox_tower.{i}.{p}" for i in (0, 1) for p in ("weight", "bias")}
    predictors = {f"{n}.{p}" for n in ("cls_logits", "bbox_pred", "ctrness") for p in ("weight", "bias")}
    assert keys == towers | predictors | {"scales.0.scale", "scales.1.scale"}


def test_fcos_head_without_norm_scale_and_with_shared_convs():
    keys = set(fcos_head(norm="none", use_scale=False, num_shared_convs=1).state_dict())
    assert "cls_tower.2.weight" in keys and "share_tower.0.weight" in keys
    assert not any("scale" in k or "tower.1." in k for k in keys)


def test_fcos_head_initialization():
    head = fcos_head(prior_prob=0.01)
    assert torch.allclose(head.cls_logits.bias, torch.tensor(-math.log(99.0)))
    convs = [m for m in head.modules() if isinstance(m, nn.Conv2d)]
    assert all(c.weight.std() < 0.012 for c in convs)
    assert all((c.bias == 0).all() for c in convs if c is not head.cls_logits)


def test_distances_are_scaled_then_rectified():
    head = fcos_head()
    nn.init.normal_(head.bbox_pred.weight, std=0.5)
    plain = head(features())
    head.scales[1].scale.data.fill_(3.0)
    scaled = head(features())
    assert torch.equal(scaled.ltrb[0], plain.ltrb[0])
    assert torch.allclose(scaled.ltrb[1], plain.ltrb[1] * 3)
    assert (plain.ltrb[0] == 0).any() and (plain.ltrb[0] >= 0).all()
    assert [tuple(x.shape) for x in plain.class_logits] == [(2, K, 4, 5), (2, K, 2, 3)]
    assert [tuple(x.shape) for x in plain.centerness_logits] == [(2, 1, 4, 5), (2, 1, 2, 3)]


def test_centerness_reads_the_box_tower():
    head = fcos_head()
    before = head(features())
    for p in head.cls_tower.parameters():
        p.data.zero_()
    after = head(features())
    assert torch.equal(before.centerness_logits[0], after.centerness_logits[0])
    assert not torch.equal(before.class_logits[0], after.class_logits[0])


def test_the_shared_and_the_box_tower_can_be_deformable():
    keys = set(fcos_head(deformable=True, num_shared_convs=1).state_dict())
    assert "bbox_tower.0.conv_offset.weight" in keys and "share_tower.0.conv_offset.weight" in keys
    assert not any(k.startswith("cls_tower") and "offset" in k for k in keys)
    out = fcos_head(deformable=True)(features())
    assert all(x.isfinite().all() for part in out for x in part)
