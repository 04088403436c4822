import math

import pytest
import torch
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes

from centermask_solo.modeling.centermask.pooler import AdaptiveROIPooler

OPTIONS = {"output_size": 7, "scales": (1 / 8, 1 / 16, 1 / 32), "sampling_ratio": 0, "pooler_type": "ROIAlignV2"}
SIZES = [(96, 128), (64, 64)]


def maps():
    """Return levels filled with their own number."""
    return [torch.full((2, 3, 16 // s, 16 // s), float(level)) for level, s in ((3, 1), (4, 2), (5, 4))]


def square(area):
    side = math.sqrt(area)
    return [1.0, 1.0, 1 + side, 1 + side]


@pytest.mark.parametrize("pooler_type", ["ROIAlign", "ROIAlignV2", "ROIPool"])
def test_the_level_depends_on_the_share_of_the_boxs_own_image(pooler_type):
    pooler = AdaptiveROIPooler(**(OPTIONS | {"pooler_type": pooler_type}))
    shares = [[0.9, 0.1, 0.4], [0.3, 0.7]]
    boxes = [
        Boxes(torch.tensor([square(s * h * w) for s in image])) for image, (h, w) in zip(shares, SIZES, strict=True)
    ]
    got = pooler(maps(), boxes, SIZES)
    assert got.shape == (5, 3, 7, 7)
    assert [x.round().unique().tolist() for x in got] == [[5], [3], [4], [4], [5]]
    assert pooler.assign_levels(boxes, SIZES).tolist() == [5, 3, 4, 4, 5]


def test_values_are_those_of_detectron2s_pooler_on_that_level():
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(2, 3, 16 // s, 16 // s, generator=generator) for s in (1, 2, 4)]
    boxes = [Boxes(torch.tensor([[3.0, 5.0, 70.0, 90.0], [-20.0, -8.0, 15.0, 12.0]])), Boxes(torch.zeros(0, 4))]
    got = AdaptiveROIPooler(**OPTIONS)(features, boxes, SIZES)
    for row, level in enumerate([4, 3]):
        single = ROIPooler(**(OPTIONS | {"scales": (2.0**-level,)}))
        expected = single([features[level - 3]], [boxes[0][row], Boxes(torch.zeros(0, 4))])
        assert torch.allclose(got[row], expected[0])


def test_no_boxes_give_an_empty_result():
    empty = [Boxes(torch.zeros(0, 4)) for _ in range(2)]
    assert AdaptiveROIPooler(**OPTIONS)(maps(), empty, SIZES).shape == (0, 3, 7, 7)


def test_it_has_no_parameters_and_the_gradient_reaches_the_levels_used():
    pooler = AdaptiveROIPooler(**OPTIONS)
    assert not list(pooler.state_dict())
    features = [x.requires_grad_() for x in maps()]
    pooler(features, [Boxes(torch.tensor([square(0.9 * 96 * 128)])), Boxes(torch.zeros(0, 4))], SIZES).sum().backward()
    assert features[2].grad.abs().sum() > 0
    assert features[0].grad.abs().sum() == 0
