import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks, PolygonMasks, polygons_to_bitmask

from centermask_solo.modeling.centermask.targets import (
    MaskTargets,
    bitmask_mask_targets,
    mask_iou_targets,
    mask_targets,
    polygon_mask_targets,
)
from tests.host_reads import HostReads
from tests.oracles import centermask as oracles


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
INDEX = [0, 1, 1, 2]


def test_polygon_masks_are_detectron2s():
    got = polygon_mask_targets(POLYGONS, ROIS, INDEX, 28)
    expected = PolygonMasks([POLYGONS[i] for i in INDEX]).crop_and_resize(ROIS, 28)
    assert torch.equal(got.masks, expected)


@pytest.mark.parametrize("chunk_bytes", [2**25, 100_000])
@pytest.mark.parametrize("side", [28, 14, 56])
def test_polygon_targets_are_those_of_each_roi_alone(side, chunk_bytes, monkeypatch):
    """To the bit, for RoIs in any place and of any size, also without extent."""
    monkeypatch.setattr("centermask_solo.ops.chunks.CHUNK_BYTES", chunk_bytes)
    rng = np.random.default_rng(side)
    polygons = [[star(rng.uniform(0, 200, 2), rng.uniform(1, 90), k) for k in rng.integers(3, 40, 2)] for _ in range(6)]
    polygons[2] = []
    corners = torch.from_numpy(rng.uniform(-30, 200, (150, 2))).float()
    boxes = torch.cat([corners, corners + torch.from_numpy(rng.uniform(0, 12, (150, 2)) ** 2).float()], dim=1)
    boxes[:5, 2:] = boxes[:5, :2] + torch.tensor([[0.0, 9.0], [0.05, 0.05], [0.999, 3.0], [-2.0, 5.0], [0.1, 0.1]])
    index = rng.integers(0, 6, 150).tolist()
    got = polygon_mask_targets(polygons, boxes, index, side)
    masks, ratios = oracles.polygon_mask_targets(polygons, boxes, index, side)
    assert torch.equal(got.masks, masks)
    assert torch.equal(got.crop_ratios, ratios)
    assert masks.flatten(1).any(1).sum() > 30 and len(ratios.unique()) > 30


def test_targets_of_a_batch_are_those_of_its_images():
    images = [POLYGONS, [], POLYGONS[:1], POLYGONS[1:]]
    boxes, index = [ROIS, ROIS[:0], ROIS[:0], ROIS[:3]], [INDEX, [], [], [1, 0, 1]]
    targets = [polygon_mask_targets(p, b, i, 28) for p, b, i in zip(images, boxes, index, strict=True)]
    expected = MaskTargets(*(torch.cat(x) for x in zip(*targets, strict=True)))
    on_device = [torch.tensor(i, dtype=torch.int64) for i in index]
    with HostReads(2) as reads:  # the objects of the RoIs, and the number of crossings
        got = mask_targets([PolygonMasks(images[0]), None, *map(PolygonMasks, images[2:])], boxes, on_device, 28)
    assert len(reads.reads) == 2
    assert torch.equal(got.masks, expected.masks)
    assert torch.equal(got.crop_ratios, expected.crop_ratios)


def test_targets_of_a_batch_of_bitmasks_are_those_of_its_images():
    boxes, index = [ROIS, ROIS[:0], ROIS[1:]], [INDEX, [], [2, 2, 0]]
    with HostReads(1):
        got = mask_targets(
            [BitMasks(bitmasks()), None, BitMasks(bitmasks())], boxes, [torch.tensor(i).long() for i in index], 28
        )
    parts = [bitmask_mask_targets(bitmasks(), b, i, 28) for b, i in zip(boxes, index, strict=True)]
    assert torch.equal(got.masks, torch.cat([x.masks for x in parts]))
    assert torch.equal(got.crop_ratios, torch.cat([x.crop_ratios for x in parts]))


def test_masks_of_two_kinds_are_refused():
    index = torch.tensor(INDEX)
    with pytest.raises(ValueError, match="one form"):
        mask_targets([PolygonMasks(POLYGONS), BitMasks(bitmasks())], [ROIS, ROIS], [index, index], 28)
    with pytest.raises(ValueError, match="not NoneType"):
        mask_targets([None], [ROIS], [index], 28)


def test_crop_ratios_are_shares_of_the_area():
    ratios = polygon_mask_targets(POLYGONS, ROIS, INDEX, 28).crop_ratios
    assert ratios[0].item() == pytest.approx(1, abs=0.02)  # completely inside
    assert ratios[1].item() == pytest.approx(1, abs=0.02)
    assert 0.3 < ratios[2] < 0.7  # the second part only
    assert ratios[3].item() == pytest.approx(40 * 30 / (80 * 60), abs=0.02)


def test_crop_ratio_counts_overlapping_polygons_twice_and_clamps():
    square = np.array([0.0, 0.0, 10.0, 0.0, 10.0, 10.0, 0.0, 10.0])
    got = polygon_mask_targets([[square, square]], torch.tensor([[0.0, 0.0, 10.0, 5.0]]), [0], 28)
    assert got.crop_ratios.item() == pytest.approx(0.5)
    for box in ([30.0, 30.0, 40.0, 40.0], [0.0, 0.0, 0.9, 5.0], [5.0, 5.0, 5.0, 5.0]):  # nothing, or no canvas
        got = polygon_mask_targets([[square]], torch.tensor([box]), [0], 28)
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
    got = bitmask_mask_targets(torch.zeros(1, 20, 20, dtype=torch.bool), ROIS[:1], [0], 28)
    assert not got.masks.any()
    assert mask_iou_targets(torch.ones(1, 28, 28), got).tolist() == [0.0]


@pytest.mark.parametrize("function", [polygon_mask_targets, bitmask_mask_targets])
def test_without_rois_targets_are_empty(function):
    objects = POLYGONS if function is polygon_mask_targets else bitmasks()
    got = function(objects, torch.zeros(0, 4), [], 28)
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
