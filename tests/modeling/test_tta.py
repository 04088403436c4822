"""Test-time augmentation of the one-stage systems: what several views of an image find becomes one result."""

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from centermask_solo.inference.predictor import Predictor
from centermask_solo.modeling.instance_tta import InstanceTTA, flipped, merge
from centermask_solo.modeling.tta import with_augmentation
from centermask_solo.structures.compact_masks import CompactMasks, CroppedMasks
from centermask_solo.utils.errors import ConfigError
from tests.modeling.models import SYSTEMS

ONE_STAGE = ["SOLOv2", "SOLO", "YOLACT", "FCOS"]
SIZE = (48, 64)


def instances(masks, scores, classes=None):
    found = Instances((masks.shape[1], masks.shape[2]))
    found.pred_masks = CroppedMasks.encode(masks)
    found.pred_boxes = Boxes(found.pred_masks.boxes())
    found.scores = torch.tensor(scores)
    found.pred_classes = torch.tensor(classes or [0] * len(scores))
    return found


def rectangles(*corners, size=(20, 30)):
    masks = torch.zeros(len(corners), *size, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, corners, strict=True):
        mask[y0:y1, x0:x1] = True
    return masks


def test_flipping_is_that_of_the_pixels():
    masks = torch.rand(4, 20, 30, generator=torch.Generator().manual_seed(0)) > 0.95
    found = flipped(instances(masks, [0.9, 0.8, 0.7, 0.6]))
    assert torch.equal(found.pred_masks.tensor(), masks.flip(2))
    assert torch.equal(found.pred_boxes.tensor, found.pred_masks.boxes())


def test_merging_takes_the_best_score_and_the_pixels_of_the_majority():
    """Two views agree on columns up to 10, the third one goes on to 12; another object and another class stay."""
    masks = rectangles((2, 2, 10, 10), (2, 2, 10, 10), (2, 2, 12, 10), (20, 2, 28, 10), (2, 2, 10, 10))
    merged = merge(instances(masks, [0.5, 0.7, 0.9, 0.3, 0.2], [0, 0, 0, 0, 1]), -1)
    assert merged.scores.tolist() == pytest.approx([0.9, 0.3, 0.2])
    assert merged.pred_classes.tolist() == [0, 0, 1]
    assert merged.pred_boxes.tensor[0].tolist() == [2, 2, 10, 10]
    assert torch.equal(merged.pred_masks.tensor(), masks[[0, 3, 4]])
    assert len(merge(instances(masks, [0.5, 0.7, 0.9, 0.3, 0.2]), 2)) == 2


def test_merging_nothing_and_boxes():
    assert len(merge(instances(torch.zeros(0, 5, 5, dtype=torch.bool), []), 100)) == 0
    found = instances(rectangles((0, 0, 10, 10), (0, 0, 10, 12)), [0.75, 0.25])
    found.remove("pred_masks")
    assert merge(found, 100).pred_boxes.tensor.tolist() == [[0, 0, 10, 10.5]]


def small_model(name, *overrides):
    system = SYSTEMS[name]
    overrides = ("TEST.AUG.ENABLED", True, "TEST.AUG.MAX_SIZE", 200, system.score_thresh, 0.01, *overrides)
    return system.cfg(*overrides), system.model(*overrides).eval()


def image_input(seed=0):
    image = np.random.default_rng(seed).integers(0, 256, (3, *SIZE), dtype=np.uint8)
    return {"image": torch.from_numpy(image), "height": SIZE[0], "width": SIZE[1]}


@pytest.mark.parametrize("name", ONE_STAGE)
def test_a_flipped_view_alone_is_the_flipped_result_of_the_flipped_image(name):
    cfg, model = small_model(name, "TEST.AUG.FLIP", True)
    size = SIZE[0] if model.input_size is None else model.input_size[0]
    cfg.TEST.AUG.MIN_SIZES = (size,)
    tta, x = InstanceTTA(cfg, model), image_input()
    tta._flips = (True,)
    with torch.no_grad():
        found = tta([x])[0]["instances"]
        plain = model([x | {"image": x["image"].flip(2), "mask_format": "cropped"}])[0]["instances"]
    assert len(found) > 0
    expected = merge(flipped(plain), cfg.TEST.DETECTIONS_PER_IMAGE)
    assert torch.equal(found.scores, expected.scores)
    if found.has("pred_masks"):
        assert torch.equal(found.pred_masks, expected.pred_masks.tensor())


@pytest.mark.parametrize("name", ONE_STAGE)
def test_sizes_and_flips_make_one_result_in_the_frame_of_the_image(name):
    cfg, model = small_model(name)
    cfg.TEST.AUG.MIN_SIZES = (64, 96)
    tta = with_augmentation(cfg, model)
    seen = []
    hook = model.backbone.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape[2:])))
    before = model.input_size
    with torch.no_grad():
        outputs = tta([image_input() | {"mask_format": "compact"}, image_input(1)])
    hook.remove()
    assert len(seen) == 8 and len(set(seen)) == 2 and model.input_size == before
    compact, dense = (x["instances"] for x in outputs)
    for found in (compact, dense):
        assert found.image_size == SIZE and 0 < len(found) <= cfg.TEST.DETECTIONS_PER_IMAGE
        assert (found.scores.diff() <= 0).all()
    if compact.has("pred_masks"):
        assert isinstance(compact.pred_masks, CompactMasks)
        assert dense.pred_masks.shape == (len(dense), *SIZE) and dense.pred_masks.dtype == torch.bool


@pytest.mark.parametrize("name", ["SOLOv2", "YOLACT", "CenterMask"])
def test_predictors_give_the_image_itself_to_all_views(name, tmp_path, monkeypatch):
    """Not the one that is resized for a single view; masks are compact."""
    cfg, model = small_model(name)
    cfg.TEST.AUG.MIN_SIZES, cfg.MODEL.WEIGHTS = (64, 96), str(tmp_path / "x.pth")
    torch.save({"model": model.state_dict()}, cfg.MODEL.WEIGHTS)
    predictor = Predictor(cfg, mask_format="compact")
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    assert tuple(predictor.model_input(image)["image"].shape) == (3, *SIZE)
    found = predictor(image)["instances"]
    assert len(found) > 0 and isinstance(found.pred_masks, CompactMasks) and found.pred_masks.size == SIZE


def test_yolacts_anchors_keep_their_sizes_in_pixels():
    _, model = small_model("YOLACT")
    side, shapes = model.input_size[0], model.anchor_shapes.clone()
    with model.resizing_to(2 * side):
        assert torch.allclose(model.anchor_shapes * 2 * side, shapes * side)
    assert torch.equal(model.anchor_shapes, shapes) and model.input_size == (side, side)


def test_what_cannot_be_augmented_is_an_error():
    cfg, model = small_model("Panoptic SOLOv2")
    with pytest.raises(
        ConfigError, match=r"PanopticSOLOv2, which predicts more than instances: set TEST\.AUG\.ENABLED"
    ):
        with_augmentation(cfg, model)
    cfg, model = small_model("SOLOv2", "TEST.CUDA_GRAPHS", True)
    with pytest.raises(ConfigError, match=r"set TEST\.CUDA_GRAPHS False"):
        with_augmentation(cfg, model)
