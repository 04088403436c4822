"""The form of masks that a reader asks for, made in bounded memory."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import Boxes, Instances

from centermask_solo.structures import mask_formats
from centermask_solo.structures.compact_masks import CroppedMasks, RLEMasks
from centermask_solo.structures.mask_formats import coco_results, in_parts, with_options
from tests.structures.masks import random_masks

FORMS = {"dense": torch.Tensor, "cropped": CroppedMasks, "rle": RLEMasks, "compact": CroppedMasks}


def paste(sizes):
    """A function that makes the masks of instances, and notes how many at once."""

    def postprocess(instances):
        sizes.append(len(instances))
        height, width = instances.image_size
        kept = instances[instances.scores != 3]
        rows = torch.arange(height)[None, :, None] >= kept.scores[:, None, None]
        masks = rows.expand(-1, -1, width).contiguous()
        return Instances((height, width), **kept.get_fields(), pred_masks=masks)

    return postprocess


def found(count=10):
    return Instances((20, 30), scores=torch.arange(float(count)), pred_boxes=Boxes(torch.zeros(count, 4)))


def as_tensor(masks):
    return masks if torch.is_tensor(masks) else masks.tensor()


@pytest.mark.parametrize("mask_format", FORMS)
def test_masks_are_made_and_packed_a_few_at_a_time(mask_format, monkeypatch):
    monkeypatch.setattr("centermask_solo.ops.chunks.CHUNK_BYTES", 3 * 600)
    sizes = []
    whole = in_parts(paste(sizes), found(), (20, 30), {})
    assert sizes == [10] and torch.is_tensor(whole.pred_masks)
    sizes.clear()
    parts = in_parts(paste(sizes), found(), (20, 30), {"mask_format": mask_format})
    assert sizes == ([10] if mask_format == "dense" else [3, 3, 3, 1])
    assert isinstance(parts.pred_masks, FORMS[mask_format])
    assert torch.equal(as_tensor(parts.pred_masks), whole.pred_masks)
    assert parts.scores.tolist() == whole.scores.tolist() and len(parts.pred_boxes) == 9


def test_large_crops_become_codes_on_the_way(monkeypatch):
    monkeypatch.setattr("centermask_solo.ops.chunks.CHUNK_BYTES", 3 * 600)
    for limit, form in ((4140, CroppedMasks), (4139, RLEMasks), (0, RLEMasks)):
        monkeypatch.setattr(mask_formats, "MAX_MASK_BYTES", limit)
        masks = in_parts(paste([]), found(), (20, 30), {"mask_format": "compact"}).pred_masks
        assert type(masks) is form
        assert torch.equal(masks.tensor(), in_parts(paste([]), found(), (20, 30), {}).pred_masks)
        assert type(in_parts(paste([]), found(), (20, 30), {"mask_format": "cropped"}).pred_masks) is CroppedMasks


@pytest.mark.parametrize("mask_format", FORMS)
def test_only_masks_of_wanted_detections_are_made(mask_format):
    sizes = []
    options = {"mask_format": mask_format, "score_threshold": 7.0}
    parts = in_parts(paste(sizes), found(), (20, 30), options)
    assert sizes == [3] and parts.scores.tolist() == [7, 8, 9]
    assert len(in_parts(paste(sizes), found(), (20, 30), options | {"score_threshold": 99}).pred_masks) == 0


@pytest.mark.parametrize("mask_format", FORMS)
def test_results_of_other_models(mask_format):
    """Which ignore the options."""
    whole = in_parts(paste([]), found(), (20, 30), {})
    options = {"mask_format": mask_format, "score_threshold": 5.0}
    packed = with_options(whole, options)
    assert isinstance(packed.pred_masks, FORMS[mask_format]) and packed.scores.tolist() == [5, 6, 7, 8, 9]
    assert torch.equal(as_tensor(packed.pred_masks), whole.pred_masks[-5:])
    again = with_options(packed, options)
    assert torch.equal(as_tensor(again.pred_masks), whole.pred_masks[-5:])


@pytest.mark.parametrize("mask_format", FORMS)
@pytest.mark.parametrize("count", [0, 4])
def test_instances_without_masks_stay_without(count, mask_format, monkeypatch):
    monkeypatch.setattr("centermask_solo.ops.chunks.CHUNK_BYTES", 6)
    instances = Instances((2, 3), scores=torch.arange(float(count)))
    assert set(in_parts(lambda x: x, instances, (2, 3), {"mask_format": mask_format}).get_fields()) == {"scores"}


@pytest.mark.parametrize("form", [CroppedMasks.encode, RLEMasks.encode, lambda x: x])
@pytest.mark.parametrize("count", [0, 12])
def test_results_are_those_of_detectron2(form, count):
    masks = random_masks()[:count]
    fields = {
        "scores": torch.rand(count),
        "pred_classes": torch.arange(count),
        "pred_boxes": Boxes(torch.rand(count, 4)),
    }
    expected = instances_to_coco_json(Instances((17, 23), **fields, pred_masks=masks), 7)
    assert coco_results(Instances((17, 23), **fields, pred_masks=form(masks)), 7) == expected


PROGRAM = """
import resource, sys, torch
from detectron2.structures import Boxes, Instances
from centermask_solo.structures.mask_formats import coco_results, in_parts

SIZE = (3000, 4000)

def postprocess(instances):
    masks = torch.zeros(len(instances), *SIZE, dtype=torch.bool)
    for mask, score in zip(masks, instances.scores.tolist()):
        top = int(2500 * score)
        mask[top : top + 400, top : top + 600] = True
    return Instances(SIZE, **instances.get_fields(), pred_masks=masks)

def run(count, mask_format):
    instances = Instances(SIZE, scores=torch.rand(count), pred_classes=torch.zeros(count))
    instances.pred_boxes = Boxes(torch.zeros(count, 4))
    masks = in_parts(postprocess, instances, SIZE, {"mask_format": mask_format})
    return len(coco_results(masks, 1)), masks.pred_masks.nbytes

run(2, "rle")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for mask_format in ("rle", "compact"):
    print(*run(300, mask_format), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.slow
def test_300_masks_of_12_megapixels_take_no_3_6_gigabytes():
    """Of which each has 2 % of the pixels: 72 MB as crops."""
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    codes, crops = (tuple(map(float, line.split())) for line in result.stdout.splitlines())
    assert codes[0] == crops[0] == 300
    assert codes[1] < 1e6 and crops[1] == 300 * 400 * 600
    assert codes[2] < 100 and crops[2] < 72 + 200  # MB, with what the allocator leaves unused between blocks


def test_memory_between_the_masks_of_large_images_is_given_back(monkeypatch):
    """Small tensors that stay would keep the memory of the large ones before them: 5 MB for each 32 MB of masks."""
    calls, sizes = [], []
    monkeypatch.setattr(mask_formats, "free_unused", lambda: calls.append(len(sizes)))
    monkeypatch.setattr(mask_formats, "rows_per_chunk", lambda row_bytes: 1)
    monkeypatch.setattr(mask_formats, "UNUSED_BYTES", 2 * 20 * 30)
    instances = Instances((20, 30), scores=torch.tensor([0.0, 1.0, 2.0, 4.0, 5.0]))
    in_parts(paste(sizes), instances, (20, 30), {"mask_format": "rle"})
    assert calls == [2, 4]
    in_parts(paste([]), instances, (20, 30), {})
    assert calls == [2, 4]
