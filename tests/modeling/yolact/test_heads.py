from __future__ import annotations

import pytest
import torch
from torch import nn

from centermask_solo.modeling.semantic import SemanticHead
from centermask_solo.modeling.yolact.heads import YOLACTHead, YOLACTMaskIoUHead, YOLACTProtonet


def test_prototypes_are_twice_as_large_and_not_negative():
    protonet = YOLACTProtonet(in_channels=8, num_prototypes=5, channels=16)
    prototypes = protonet(torch.randn(2, 8, 9, 7))
    assert prototypes.shape == (2, 5, 18, 14)
    assert prototypes.min() == 0 < prototypes.max()


def test_anchors_run_through_levels_rows_columns_and_cells():
    head = YOLACTHead(in_channels=4, num_classes=2, num_anchors=3, num_prototypes=5)
    levels = [torch.randn(2, 4, 3, 2), torch.randn(2, 4, 1, 1)]
    deltas, logits, coefficients = head(levels)
    assert (deltas.shape, logits.shape, coefficients.shape) == ((2, 21, 4), (2, 21, 3), (2, 21, 5))
    assert coefficients.abs().max() < 1
    row, column, anchor = 2, 1, 1
    for out, conv in ((deltas, head.box_pred), (logits, head.class_logits)):
        maps = conv(head.conv(levels[0]).relu())
        width = out.shape[2]
        expected = maps[1, anchor * width : (anchor + 1) * width, row, column]
        torch.testing.assert_close(out[1, (row * 2 + column) * 3 + anchor], expected)
    torch.testing.assert_close(head(levels[1:])[0], deltas[:, 18:])


@pytest.mark.parametrize(
    ("module", "channels"),
    [
        (YOLACTProtonet(in_channels=256), 256),
        (YOLACTHead(in_channels=256, num_classes=80, num_anchors=3), 256),
        (SemanticHead(in_channels=256, num_classes=80), 256),
        (YOLACTMaskIoUHead(num_classes=80), 1),
    ],
)
def test_convolutions_start_as_published(module, channels):
    """Xavier with both fans, biases zero, no prior on classes; but for the mask IoU's, see the next test."""
    convs = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    assert convs[0].in_channels == channels
    for conv in convs:
        assert not conv.bias.any() or conv is getattr(module, "predictor", None)
        taps = conv.kernel_size[0] ** 2
        limit = (6 / ((conv.in_channels + conv.out_channels) * taps)) ** 0.5
        assert 0.9 * limit < conv.weight.abs().max() <= limit


def test_mask_iou_head_has_the_published_shapes_and_takes_the_maximum():
    head = YOLACTMaskIoUHead(num_classes=3)
    assert [tuple(p.shape) for p in head.parameters() if p.ndim > 1] == [
        *[(8, 1, 3, 3), (16, 8, 3, 3), (32, 16, 3, 3), (64, 32, 3, 3), (128, 64, 3, 3)],
        (3, 128, 1, 1),
    ]
    masks = torch.rand(2, 138, 138)
    x = masks[:, None]
    for i in range(5):
        x = getattr(head, f"conv{i + 1}")(x).relu()
    assert x.shape == (2, 128, 3, 3)
    expected = head.predictor(x).relu().flatten(2).max(dim=2).values
    torch.testing.assert_close(head(masks, torch.tensor([2, 0])), expected[[0, 1], [2, 0]])


def test_an_untrained_mask_iou_head_predicts_a_half_so_that_every_class_learns():
    torch.manual_seed(0)
    head = YOLACTMaskIoUHead(num_classes=80)
    masks = torch.zeros(80, 138, 138)
    masks[:, 20:90, 30:110] = 0.9
    ious = head(masks, torch.arange(80))
    assert ious.min() > 0.3 and ious.max() < 0.7
    ious.sum().backward()
    assert (head.predictor.weight.grad.flatten(1) != 0).any(dim=1).all()


def test_mask_iou_head_takes_no_masks_and_none_too_small():
    head = YOLACTMaskIoUHead(num_classes=3)
    nothing = head(torch.zeros(0, 138, 138), torch.zeros(0, dtype=torch.int64))
    nothing.sum().backward()
    assert nothing.shape == (0,)
    assert all(p.grad is not None for p in head.parameters())
    assert head(torch.rand(1, head.smallest_mask, head.smallest_mask), torch.zeros(1, dtype=torch.int64)).shape == (1,)
    with pytest.raises(RuntimeError):
        head(torch.rand(1, 62, 62), torch.zeros(1, dtype=torch.int64))
