"""Training of every system. A system is one entry of a table: ``models.SYSTEMS``."""

import numpy as np
import pytest
import torch
from detectron2.structures import BoxMode, PolygonMasks
from PIL import Image
from pycocotools import mask as rle

from centermask_solo.data.mapper import InstanceMapper
from tests.modeling.detections import (
    CORNERS,
    EMPTY,
    HAIR,
    HEIGHT,
    ONE_PIXEL,
    SIZE,
    WHOLE_IMAGE,
    WIDTH,
    assert_finds,
    assert_well_formed,
    inference_inputs,
    two_objects,
)
from tests.modeling.inputs import input_of, rectangles
from tests.modeling.models import detect, gradients_of, learn, losses_of


@pytest.mark.parametrize(
    "gt_of_images",
    [[EMPTY], [EMPTY, WHOLE_IMAGE], [WHOLE_IMAGE, EMPTY], [ONE_PIXEL, HAIR], [two_objects()["instances"], WHOLE_IMAGE]],
    ids=["empty", "first empty", "last empty", "one pixel and a hair", "two sizes"],
)
def test_every_parameter_learns_from_any_batch(system, gt_of_images):
    model = system.model("MODEL.BACKBONE.FREEZE_AT", 0)
    losses = losses_of(model, [input_of(x, seed=i) for i, x in enumerate(gt_of_images)])
    assert set(losses) == system.object_losses | {system.background_loss} | system.stuff_losses
    assert all(x.isfinite() and x.dtype == torch.float32 and x.shape == () for x in losses.values())
    assert losses[system.background_loss] > 0
    if gt_of_images == [EMPTY]:
        assert [losses[k].item() for k in system.object_losses] == [0] * len(system.object_losses)
    gradients = gradients_of(model, losses)
    assert len(gradients) == len(list(model.parameters()))
    assert [name for name, g in gradients.items() if g is None or not g.isfinite().all()] == []


def annotation(y0, x0, y1, x1, crowd):
    mask = rectangles(*SIZE, (y0, x0, y1, x1))[0].numpy()
    encoded = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    polygon = [[x0, y0, x1, y0, x1, y1, x0, y1]]
    return {
        "bbox": [x0, y0, x1, y1],
        "bbox_mode": BoxMode.XYXY_ABS,
        "category_id": 1,
        "iscrowd": int(crowd),
        "segmentation": encoded if crowd else polygon,
    }


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_crowds_are_no_objects(system, mask_format, tmp_path):
    """As in COCO: crowds have RLE masks, whatever the objects have."""
    Image.new("RGB", (WIDTH, HEIGHT), (90, 120, 150)).save(tmp_path / "image.png")
    Image.new("L", (WIDTH, HEIGHT), 1).save(tmp_path / "labels.png")  # of stuff, for a panoptic system
    cfg = system.cfg("INPUT.MASK_FORMAT", mask_format, "INPUT.MIN_SIZE_TRAIN", (HEIGHT,), "INPUT.RANDOM_FLIP", "none")
    mapper, model = InstanceMapper(cfg, is_train=True), system.model()
    crowd, thing = annotation(*CORNERS[0], True), annotation(*CORNERS[1], False)

    def losses(*annotations):
        record = {"file_name": str(tmp_path / "image.png"), "height": HEIGHT, "width": WIDTH, "image_id": 1}
        record |= {"sem_seg_file_name": str(tmp_path / "labels.png")} if system.stuff_losses else {}
        return losses_of(model, [mapper({**record, "annotations": list(annotations)})])

    only_crowd, both = losses(crowd), losses(crowd, thing)
    assert [only_crowd[k].item() for k in system.object_losses] == [0] * len(system.object_losses)
    assert all(x.isfinite() for x in only_crowd.values())
    assert all(x.isfinite() and x > 0 for x in both.values())
    gradients = gradients_of(model, only_crowd)
    assert [name for name, g in gradients.items() if g is None or not g.isfinite().all()] == []


def test_polygons_and_bit_masks_give_the_same_losses(system):
    model, x = system.model(), two_objects()
    bitmasks = losses_of(model, [x])
    polygons = [[np.array([x0, y0, x1, y0, x1, y1, x0, y1], dtype=float)] for y0, x0, y1, x1 in CORNERS]
    x["instances"].gt_masks = PolygonMasks(polygons)
    for name, value in losses_of(model, [x]).items():
        assert value.item() == pytest.approx(bitmasks[name].item(), rel=0.02), name


def test_training_under_autocast_is_close_to_float32(system):
    model, inputs = system.model(), [two_objects(), input_of(WHOLE_IMAGE)]
    exact = losses_of(model, inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = losses_of(model, inputs)
    for name, value in half.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(exact[name].item(), rel=0.05, abs=0.02), name
    assert all(g is not None and g.isfinite().all() for g in gradients_of(model, half).values())


def test_one_class(system):
    model = system.model(system.score_thresh, 0.001, num_classes=1)
    losses = losses_of(model, [two_objects([0, 0])])
    assert all(x.isfinite() and x > 0 for x in losses.values())
    assert all(g is not None and g.isfinite().all() for g in gradients_of(model, losses).values())
    found = detect(model, inference_inputs(two_objects([0, 0])))[0]
    assert_well_formed(found, SIZE, num_classes=1)
    assert len(found) > 0


@pytest.mark.slow
def test_it_overfits_an_image_of_one_class(system):
    x = two_objects([0, 0])
    model, history = learn(system, [x], num_classes=1)
    assert history[-1] < system.loss_bound < 0.6 * history[0]
    assert_finds(detect(model, inference_inputs(x))[0], x)
