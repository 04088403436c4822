"""Merging in fixed shapes, as on a GPU, is that of Detectron2's function, with one read on the host for a batch."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling.meta_arch.panoptic_fpn import combine_semantic_and_instance_outputs
from detectron2.structures import Boxes, Instances

from centermask_solo.modeling import slots
from centermask_solo.modeling.slots import Output, Slots
from centermask_solo.modeling.solov2.panoptic_merge import MergeOptions, merge_slots, segments_of
from centermask_solo.structures.compact_masks import RLEMasks
from centermask_solo.structures.label_map import LabelMap
from tests.host_reads import HostReads, cpu_as_gpu
from tests.modeling.models import SYSTEMS

SIZE, NUM_CLASSES, NUM_SLOTS = (30, 40), 6, 12
SIZES = [(96, 128), (90, 100), (70, 128)]  # all padded to the first one


def scene(seed):
    """Slots of overlapping rectangles, one without pixels and some that are not kept, and labels in stripes."""
    rng = torch.Generator().manual_seed(seed)
    height, width = SIZE
    masks = torch.zeros(NUM_SLOTS, height, width, dtype=torch.bool)
    for mask in masks[1:]:
        y, x = (int(torch.randint(0, n - 5, (), generator=rng)) for n in SIZE)
        h, w = (int(torch.randint(3, 20, (), generator=rng)) for _ in SIZE)
        mask[y : y + h, x : x + w] = True
    scores = torch.rand(NUM_SLOTS, generator=rng).sort(descending=True).values
    scores[3], scores[5] = 0.7, scores[4]  # 0.7 is below itself in double precision
    scores = scores.sort(descending=True).values
    classes = torch.randint(0, 80, (NUM_SLOTS,), generator=rng)
    kept = torch.rand(NUM_SLOTS, generator=rng) > 0.2
    labels = torch.randint(0, NUM_CLASSES - 1, (height, 1), generator=rng).expand(height, width).contiguous()
    boxes = Boxes(torch.zeros(NUM_SLOTS, 4))
    return Slots(Instances(SIZE, pred_masks=masks, scores=scores, pred_classes=classes, pred_boxes=boxes), kept), labels


@pytest.mark.parametrize(
    "options",
    [
        MergeOptions(0.5, 30, 0.3),
        MergeOptions(1.0, 100, 0.7),
        MergeOptions(0.2, 0, 0.0),  # classes of stuff that are covered count, classes that are nowhere do not
        MergeOptions(0.0, 10_000, 1.1),  # nothing is left
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_merging_is_detectron2s(options, seed):
    given, labels = scene(seed)
    with HostReads(0):
        merged = merge_slots(given, labels, NUM_CLASSES, options)
    segments = segments_of(merged.numbers.tolist(), NUM_SLOTS)
    kept = given.instances[given.kept]
    expected, expected_segments = combine_semantic_and_instance_outputs(kept, labels, *options)
    assert torch.equal(merged.segmentation, expected) and merged.segmentation.dtype == expected.dtype
    assert segments == expected_segments
    assert [list(map(type, x.values())) for x in segments] == [list(map(type, x.values())) for x in expected_segments]


@pytest.fixture(scope="module")
def model():
    model = SYSTEMS["Panoptic SOLOv2"].model().eval()
    model.combine_instances_score_thresh, model.combine_stuff_area_thresh = 0.1, 20
    return model


def inputs(**options):
    rng = torch.Generator().manual_seed(0)
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=rng) for size in SIZES]
    return [{"image": x, "height": 50 + 10 * i, "width": 70, **options} for i, x in enumerate(images)]


@torch.no_grad()
def both(model, batch, limit):
    """The results as on a GPU, with at most so many reads after the networks, and those as on a CPU."""
    images = model.preprocess_image(batch)
    predictions = model.predict(images.tensor)
    with cpu_as_gpu(limit):
        found = model.outputs_of_slots(batch, predictions, images.image_sizes, [Output.of(x) for x in batch])
    return found, model(batch)


def assert_equal(found, expected):
    for x, y in zip(found, expected, strict=True):
        assert set(x) == set(y) == {"instances", "sem_seg", "panoptic_seg"} and len(x["instances"]) == len(
            y["instances"]
        )
        assert type(x["instances"].pred_masks) is type(y["instances"].pred_masks)
        assert torch.equal(x["sem_seg"].argmax(dim=0), y["sem_seg"].argmax(dim=0))
        (labels, segments), (expected_labels, expected_segments) = x["panoptic_seg"], y["panoptic_seg"]
        assert torch.equal(labels, expected_labels)
        for a, b in zip(segments, expected_segments, strict=True):
            assert a.pop("score", 0.0) == pytest.approx(b.pop("score", 0.0), abs=1e-6)
            assert a == b


def test_a_batch_is_read_once(model):
    found, expected = both(model, inputs(), limit=1)
    for x in found:
        segmentation, segments = x["panoptic_seg"]
        assert set(segmentation.unique().tolist()) - {0} == {s["id"] for s in segments}
    are_things = [s["isthing"] for x in found for s in x["panoptic_seg"][1]]
    assert sum(are_things) > 3 and not all(are_things)
    assert_equal(found, expected)


def test_a_score_threshold_leaves_instances_out(model):
    found, expected = both(model, inputs(score_threshold=0.12), limit=1)
    assert 0 < len(found[0]["instances"]) < len(both(model, inputs(), limit=1)[0][0]["instances"])
    assert_equal(found, expected)


def test_what_is_not_pasted_in_slots_is_read_more(model, monkeypatch):
    """An image of large masks, one of codes, and a batch of which not all candidates fit."""
    monkeypatch.setattr(slots, "MAX_MASK_BYTES", 100 * 55 * 70)
    batch = inputs()
    batch[0]["mask_format"] = "rle"
    found, expected = both(model, batch, limit=None)
    assert isinstance(found[0]["instances"].pred_masks, RLEMasks)
    assert_equal(found, expected)
    monkeypatch.setattr(model, "test_max_candidates", 7)
    found, expected = both(model, inputs(), limit=None)
    assert_equal(found, expected)


def test_maps_of_labels_take_the_place_of_large_logits(model, monkeypatch):
    monkeypatch.setattr("centermask_solo.modeling.solov2.panoptic.MAX_MASK_BYTES", 0)
    found, expected = both(model, inputs(mask_format="rle"), limit=None)
    assert all(isinstance(x["sem_seg"], LabelMap) for x in (*found, *expected))
    assert_equal(found, expected)
