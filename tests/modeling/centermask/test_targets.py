import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks, PolygonMasks, polygons_to_bitmask

from centermask_solo.modeling.centermask.targets import (
    MaskTargets,
    bitmask_mask_targets,
    mask_iou_targets,
    polygon_mask_targets,
)


def star(center, radius, points=9):
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    reach = radius * (1 + 0.3 * np.cos(3 * angle))
    return np.stack([center[0] + reach * np.cos(angle), center[1] + reach * np.sin(angle)], axis=1).reshape(-1)


POLYGONS = [
    [star((40, 40), 20)],
    [star((70, 30), 12), star((90, 60), 15)],  # two parts
    [np.array([10.0, 10.0, 90.0, 10.0, 90.0, 70.0, 10.0, 70.0])],
]
ROIS = torch.tensor(
    [[15.0, 15.0, 65.0, 65.0], [50.0, 10.0, 110.0, 80.0], [75.2, 40.7, 120.0, 100.0], [-20.0, -10.0, 50.0, 40.0]]
)
INDEX = torch.tensor([0, 1, 1, 2])


def test_polygon_masks_are_detectron2s():
    got = polygon_mask_targets(POLYGONS, ROIS, INDEX, 28)
    expected = PolygonMasks([POLYGONS[i] for i in INDEX]).crop_and_resize(ROIS, 28)
    assert torch.equal(got.masks, expected)


def test_crop_ratios_are_shares_of_the_area():
    ratios = polygon_mask_targets(POLYGONS, ROIS, INDEX, 28).crop_ratios
    assert ratios[0].item() == pytest.approx(1, abs=0.02)  # completely inside
    assert ratios[1].item() == pytest.approx(1, abs=0.02)
    assert 0.3 < ratios[2] < 0.7  # the second part only
    assert ratios[3].item() == pytest.approx(40 * 30 / (80 * 60), abs=0.02)


def test_crop_ratio_counts_overlapping_polygons_twice_and_clamps():
    square = np.array([0.0, 0.0, 10.0, 0.0, 10.0, 10.0, 0.0, 10.0])
    got = polygon_mask_targets([[square, square]], torch.tensor([[0.0, 0.0, 10.0, 5.0]]), torch.tensor([0]), 28)
    assert got.crop_ratios.item() == pytest.approx(0.5)
    for box in ([30.0, 30.0, 40.0, 40.0], [0.0, 0.0, 0.9, 5.0], [5.0, 5.0, 5.0, 5.0]):  # nothing, or no canvas
        got = polygon_mask_targets([[square]], torch.tensor([box]), torch.tensor([0]), 28)
        assert got.crop_ratios.item() == pytest.approx(1e-10)


def bitmasks():
    return torch.stack([torch.from_numpy(polygons_to_bitmask(p, 100, 120)) for p in POLYGONS])


def test_bitmask_targets_agree_with_detectron2_and_with_the_polygons():
    got = bitmask_mask_targets(bitmasks(), ROIS, INDEX, 28)
    assert torch.equal(got.masks, BitMasks(bitmasks()[INDEX]).crop_and_resize(ROIS, 28))
    polygons = polygon_mask_targets(POLYGONS, ROIS, INDEX, 28)
    assert torch.allclose(got.crop_ratios, polygons.crop_ratios, atol=0.03)


def test_bitmask_targets_do_not_depend_on_the_chunk(monkeypatch):
    whole = bitmask_mask_targets(bitmasks(), ROIS, INDEX, 28)
    monkeypatch.setattr("centermask_solo.ops.chunks.CHUNK_BYTES", 1)
    for got, expected in zip(bitmask_mask_targets(bitmasks(), ROIS, INDEX, 28), whole, strict=True):
        assert torch.equal(got, expected)


def test_bitmask_without_pixels_has_a_target():
    got = bitmask_mask_targets(torch.zeros(1, 20, 20, dtype=torch.bool), ROIS[:1], torch.tensor([0]), 28)
    assert not got.masks.any()
    assert mask_iou_targets(torch.ones(1, 28, 28), got).tolist() == [0.0]


@pytest.mark.parametrize("function", [polygon_mask_targets, bitmask_mask_targets])
def test_without_rois_targets_are_empty(function):
    objects = POLYGONS if function is polygon_mask_targets else bitmasks()
    got = function(objects, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), 28)
    assert got.masks.shape == (0, 28, 28) and got.masks.dtype == torch.bool
    assert got.crop_ratios.shape == (0,)
    assert mask_iou_targets(torch.zeros(0, 28, 28), got).shape == (0,)


def test_mask_iou_target_counts_what_lies_outside_the_roi():
    masks = torch.zeros(3, 4, 4, dtype=torch.bool)
    masks[:, :2] = True  # 8 cells
    logits = torch.full((3, 4, 4), -1.0)
    logits[:, :, :2] = 1.0  # 8 cells, 4 of them right
    got = mask_iou_targets(logits, MaskTargets(masks, torch.tensor([1.0, 0.5, 0.25])))
    assert got.tolist() == pytest.approx([4 / 12, 4 / (8 + 16 - 4), 4 / (8 + 32 - 4)])
