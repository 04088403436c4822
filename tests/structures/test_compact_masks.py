"""Masks that are not a tensor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.structures import Instances
from pycocotools import mask as rle

from centermask_solo.ops.masks import mask_iou, masks_to_boxes
from centermask_solo.structures.compact_masks import CroppedMasks, RLEMasks
from tests.structures.masks import random_masks

FORMS = pytest.mark.parametrize("form", [CroppedMasks, RLEMasks])


@pytest.mark.parametrize("size", [(17, 23), (1, 40), (40, 1), (1, 1)])
def test_codes_are_those_of_pycocotools(size):
    for seed in range(5):
        masks = random_masks(12, *size, seed=seed)
        expected = [rle.encode(np.asfortranarray(x.numpy().view(np.uint8))) for x in masks]
        expected = [{**x, "counts": x["counts"].decode()} for x in expected]
        assert RLEMasks.encode(masks).codes == RLEMasks.encode(CroppedMasks.encode(masks)).codes == expected


@FORMS
@pytest.mark.parametrize("count", [0, 12])
def test_they_are_read_like_a_tensor(form, count):
    masks = random_masks()[:count]
    packed = form.encode(masks)
    assert len(packed) == count and packed.size == (17, 23)
    assert torch.equal(packed.tensor(), masks)
    assert all(torch.equal(x, y) for x, y in zip(packed, masks, strict=True))
    chosen = torch.arange(count) % 3 == 1
    for item in (chosen, slice(2, 9, 3), torch.arange(count).flip(0), list(range(count // 2))):
        assert torch.equal(packed[item].tensor(), masks[item])
    assert all(torch.equal(packed[i], masks[i]) for i in range(-count, count))
    with pytest.raises(IndexError):
        packed[count]
    assert torch.equal(form.cat([packed[:3], packed[3:]]).tensor(), masks)


@FORMS
def test_they_are_a_field_of_instances(form):
    masks = random_masks()
    instances = Instances((17, 23), pred_masks=form.encode(masks), scores=torch.arange(12.0)).to("cpu")
    instances = Instances.cat([instances[3:], instances[instances.scores < 3]])
    assert torch.equal(instances.pred_masks.tensor(), masks[instances.scores.long()])


@FORMS
def test_measures(form):
    masks, others = random_masks(), random_masks(5, seed=1)
    packed = form.encode(masks)
    assert torch.equal(packed.areas(), masks.sum((1, 2)))
    assert torch.equal(packed.boxes(), masks_to_boxes(masks))
    expected = mask_iou(torch.cat([masks, others]))[:12, 12:]
    for other in (CroppedMasks, RLEMasks):
        torch.testing.assert_close(packed.iou(other.encode(others)), expected)
    assert packed.iou(form.encode(others[:0])).shape == (12, 0) and packed[:0].iou(packed).shape == (0, 12)
    assert packed[:0].areas().shape == (0,) and packed[:0].boxes().shape == (0, 4)


@FORMS
def test_each_form_becomes_every_other(form):
    masks = random_masks()
    for other in (CroppedMasks, RLEMasks):
        found = other.encode(form.encode(masks))
        assert type(found) is other and torch.equal(found.tensor(), masks)


def test_crops_take_the_memory_of_the_objects():
    masks = torch.zeros(3, 1000, 1000, dtype=torch.bool)
    masks[0, 10:20, 30:50] = masks[1, -5:, -7:] = True
    assert CroppedMasks.encode(masks).nbytes == 10 * 20 + 5 * 7
    assert RLEMasks.encode(masks).nbytes < 100
