from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from pycocotools import mask as rle

from centermask_solo.structures import rle_masks
from centermask_solo.structures.rle_masks import RLEMasks, in_parts


def random_masks(count=12, height=17, width=23):
    """Blocks anywhere, some at the borders, some noisy; the first is empty, the second is the whole image."""
    rng = np.random.default_rng(0)
    masks = np.zeros((count, height, width), dtype=bool)
    masks[1] = True
    for i in range(2, count):
        y, x = rng.integers(-3, (height, width))
        masks[i, max(y, 0) : y + 9, max(x, 0) : x + 11] = rng.random() if i % 2 else True
        masks[i] &= rng.random((height, width)) < (0.5 if i % 3 else 2)
    return torch.from_numpy(masks)


def test_codes_are_those_of_pycocotools():
    masks = random_masks()
    expected = [rle.encode(np.asfortranarray(x.numpy().view(np.uint8))) for x in masks]
    assert RLEMasks.encode(masks).codes == [{**x, "counts": x["counts"].decode()} for x in expected]
    assert len(RLEMasks.encode(masks[:0])) == 0


def test_they_are_read_like_a_tensor():
    masks = random_masks()
    packed = RLEMasks.encode(masks)
    assert torch.equal(torch.stack(list(packed)), masks)
    chosen = torch.arange(12) % 3 == 1
    for item in (chosen, slice(2, 9, 3), torch.tensor([4, 2]), [7]):
        assert torch.equal(torch.stack(list(packed[item])), masks[item])
    instances = Instances((17, 23), pred_masks=packed, scores=torch.arange(12.0)).to("cpu")
    assert torch.equal(torch.stack(list(instances[instances.scores >= 9].pred_masks)), masks[9:])


def paste(sizes):
    """A function that makes the masks of instances, and notes how many at once."""

    def postprocess(instances):
        sizes.append(len(instances))
        height, width = instances.image_size
        kept = instances[instances.scores != 3]
        rows = torch.arange(height)[None, :, None] >= kept.scores[:, None, None]
        return Instances((height, width), **kept.get_fields(), pred_masks=rows.expand(-1, -1, width))

    return postprocess


def test_masks_are_made_and_coded_a_few_at_a_time(monkeypatch):
    instances = Instances((20, 30), scores=torch.arange(10.0), pred_boxes=Boxes(torch.zeros(10, 4)))
    monkeypatch.setattr("centermask_solo.ops.chunks.CHUNK_BYTES", 3 * 600)
    sizes = []
    whole = in_parts(paste(sizes), instances, (20, 30), True)
    assert sizes == [10] and torch.is_tensor(whole.pred_masks)
    monkeypatch.setattr(rle_masks, "MAX_MASK_BYTES", 5999)
    assert torch.is_tensor(in_parts(paste(sizes), instances, (20, 30), False).pred_masks)
    sizes.clear()
    parts = in_parts(paste(sizes), instances, (20, 30), True)
    assert sizes == [3, 3, 3, 1]
    assert torch.equal(torch.stack(list(parts.pred_masks)), whole.pred_masks)
    assert parts.scores.tolist() == whole.scores.tolist() and len(parts.pred_boxes) == 9


@pytest.mark.parametrize("count", [0, 4])
def test_instances_without_masks_stay_without(count, monkeypatch):
    monkeypatch.setattr(rle_masks, "MAX_MASK_BYTES", -1 if count == 0 else 0)
    monkeypatch.setattr("centermask_solo.ops.chunks.CHUNK_BYTES", 6)
    instances = Instances((2, 3), scores=torch.arange(float(count)))
    assert set(in_parts(lambda x: x, instances, (2, 3), count > 0).get_fields()) == {"scores"}
