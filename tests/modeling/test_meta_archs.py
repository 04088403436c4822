"""Inference of every system. A system is one entry of a table: ``models.SYSTEMS``."""

from __future__ import annotations

import json
from typing import NamedTuple

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.engine import DefaultPredictor
from detectron2.structures import Instances
from detectron2.utils.visualizer import Visualizer
from torch import nn

from centermask_solo import add_centermask_solo_config
from centermask_solo.evaluation import MaskScoreCOCOEvaluator
from centermask_solo.modeling.instance_nms import INSTANCE_NMS_REGISTRY, InstanceNMS
from centermask_solo.structures.compact_masks import RLEMasks
from centermask_solo.utils.errors import ConfigError
from tests.modeling.detections import (
    CORNERS,
    HEIGHT,
    SIZE,
    WHOLE_IMAGE,
    WIDTH,
    assert_finds,
    assert_same,
    assert_well_formed,
    inference_inputs,
    mask_ious,
    two_objects,
)
from tests.modeling.inputs import input_of
from tests.modeling.models import SYSTEMS, System, detect, learn


class Learned(NamedTuple):
    system: System
    model: nn.Module
    history: list[float]
    x: dict


@pytest.fixture(scope="module", params=SYSTEMS.values(), ids=SYSTEMS.keys())
def learned(request):
    """A model that overfits an image with two objects, for inference only."""
    x = two_objects()
    return Learned(request.param, *learn(request.param, [x], num_classes=3), x)


def test_it_overfits_an_image(learned):
    assert learned.history[-1] < learned.system.loss_bound < 0.6 * learned.history[0]
    assert_finds(detect(learned.model, inference_inputs(learned.x))[0], learned.x)


def test_mask_scores_are_the_quality_of_the_masks(learned):
    """On the memorized image: the score times the IoU with the object."""
    found, gt = detect(learned.model, inference_inputs(learned.x))[0][:2], learned.x["instances"]
    assert found.has("mask_scores") is learned.system.has_mask_scores
    if learned.system.has_mask_scores:
        ious = mask_ious(found.pred_masks, gt.gt_masks.tensor).amax(1)
        torch.testing.assert_close(found.mask_scores, found.scores * ious, rtol=0, atol=0.2)


def test_masks_are_of_the_form_that_the_input_asks_for(learned, monkeypatch):
    """And only those above its threshold."""
    inputs = inference_inputs(learned.x)
    expected = detect(learned.model, inputs)[0]
    threshold = expected.scores.median().item()
    monkeypatch.setattr("centermask_solo.structures.mask_formats.rows_per_chunk", lambda _: 1)
    found = detect(learned.model, [{**x, "mask_format": "rle", "score_threshold": threshold} for x in inputs])[0]
    expected = expected[expected.scores >= threshold]
    if expected.has("pred_masks"):
        assert isinstance(expected.pred_masks, torch.Tensor) and isinstance(found.pred_masks, RLEMasks)
        assert torch.equal(found.pred_masks.tensor(), expected.pred_masks)
    assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
    assert torch.equal(found.scores, expected.scores)


def test_what_cannot_reach_the_threshold_costs_nothing(learned, monkeypatch):
    """Neither NMS nor the heads of a second stage get it."""
    entered, rule = [], InstanceNMS.__call__
    monkeypatch.setattr(InstanceNMS, "__call__", lambda self, x: entered.append(len(x)) or rule(self, x))
    inputs = inference_inputs(learned.x)
    for threshold, expected in ((0.0, True), (1.0, False)):
        entered.clear()
        found = detect(learned.model, [{**x, "score_threshold": threshold} for x in inputs])
        assert bool(sum(entered)) is bool(sum(map(len, found))) is expected
    roi_heads = getattr(learned.model, "roi_heads", None)
    if roi_heads is not None:
        scores = detect(learned.model, inputs)[0].scores
        pooled, predict = [], roi_heads.predict
        monkeypatch.setattr(roi_heads, "predict", lambda *args: pooled.append(len(args[2])) or predict(*args))
        detect(learned.model, [{**x, "score_threshold": scores[0].item()} for x in inputs])
        assert pooled == [(scores == scores[0]).sum()] and pooled[0] < len(scores)


@pytest.mark.parametrize("name", INSTANCE_NMS_REGISTRY)
def test_any_rule_of_nms_runs_in_any_system_that_has_its_inputs(system, name):
    options = (system.score_thresh, 0.001, system.nms_name, name)
    if name == "MaskNMS" and system in (SYSTEMS["CenterMask"], SYSTEMS["FCOS"]):
        with pytest.raises(ConfigError, match="needs pred_masks, but this system has only pred_boxes"):
            system.model(*options)
        return
    model = system.model(*options)
    rule = model.test_nms if hasattr(model, "test_nms") else model.proposal_generator.nms
    assert rule.name == name
    found = detect(model, inference_inputs(two_objects()))[0]
    assert len(found) > 0
    assert_well_formed(found, SIZE)


def test_images_and_outputs_of_any_size(learned):
    small = input_of(WHOLE_IMAGE)
    inputs = inference_inputs(learned.x, small, learned.x, learned.x)
    inputs[0] |= {"height": 200, "width": 90}
    inputs[1] |= {"height": 30}
    inputs[2] |= {"width": 300}
    for found, size in zip(detect(learned.model, inputs), [(200, 90), (30, 70), (96, 300), SIZE], strict=True):
        assert_well_formed(found, size)
        assert len(found) > 0


def mixed_sizes(x):
    """Crops of an image that need paddings of several sizes, some of them alike; one is larger than the image."""
    whole = x["image"]
    crops = [whole, whole[:, :90, :120], whole[:, :64, :96], whole.repeat(1, 2, 1)[:, :, :100], whole[:, :60, :90]]
    return [{"image": image.clone()} for image in crops]


def test_a_batch_equals_its_images(learned):
    inputs = mixed_sizes(learned.x)
    together = detect(learned.model, inputs)
    for x, expected in zip(inputs, together, strict=True):
        assert len(expected) > 1
        assert_same(detect(learned.model, [x])[0], expected, scores=2e-5, boxes=0.01, ious=0.999)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_non_finite_image_has_no_detections_and_affects_no_other(learned, value):
    sound = detect(learned.model, inference_inputs(learned.x))[0]
    inputs = inference_inputs(learned.x, learned.x)
    inputs[0]["image"][:] = value
    nothing, other = detect(learned.model, inputs)
    assert len(nothing) == 0
    assert_well_formed(nothing, SIZE)
    assert_same(other, sound)


def detect_with(change, learned):
    """The detections of the memorized image with each feature map changed."""
    handle = learned.model.backbone.register_forward_hook(lambda *args: {k: change(v) for k, v in args[2].items()})
    try:
        return detect(learned.model, inference_inputs(learned.x))[0]
    finally:
        handle.remove()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_features_give_no_detections(learned, value):
    found = detect_with(lambda x: torch.full_like(x, value), learned)
    assert len(found) == 0
    assert_well_formed(found, SIZE)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e38, -1e38, 1e20])
def test_partly_broken_features_give_no_broken_detections(learned, value):
    def change(x):
        x = x.clone()
        x[..., x.shape[3] // 2 :] *= value
        return x

    assert_well_formed(detect_with(change, learned), SIZE)


def test_autocast_finds_the_same(learned):
    """Every object with its score within 0.05, box within 2 pixels, and a mask IoU of 0.9 or more.

    Another detection may overlap that of an object by just the limit of NMS, and half precision decides.
    """
    exact = detect(learned.model, inference_inputs(learned.x))[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = detect(learned.model, inference_inputs(learned.x))[0]
    assert_well_formed(half, SIZE)
    assert_finds(half, learned.x)
    objects = len(learned.x["instances"])
    assert_same(half[:objects], exact[:objects], scores=0.05, boxes=2, ious=0.9)


def coco_dataset(folder, x):
    """Register the image of ``x`` and its objects; return the name of the dataset."""
    gt, annotations = x["instances"], []
    for i, (y0, x0, y1, x1) in enumerate(CORNERS):
        w, h = x1 - x0, y1 - y0
        polygon = [x0, y0, x1, y0, x1, y1, x0, y1]
        ids = {"id": i + 1, "image_id": 1, "category_id": gt.gt_classes[i].item() + 1, "iscrowd": 0}
        annotations.append({**ids, "bbox": [x0, y0, w, h], "area": w * h, "segmentation": [polygon]})
    categories = [{"id": i + 1, "name": name} for i, name in enumerate("abc")]
    images = [{"id": 1, "file_name": "image.png", "height": HEIGHT, "width": WIDTH}]
    content = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))
    register_coco_instances("meta_archs", {}, str(folder / "instances.json"), str(folder))
    DatasetCatalog.get("meta_archs")  # the evaluator takes the categories from what this leaves in the metadata
    return "meta_archs"


@pytest.fixture
def evaluate(tmp_path):
    """A function from the detections in the image with two objects to COCO's results."""
    name = coco_dataset(tmp_path, two_objects())

    def evaluate(found: Instances):
        tasks = ("bbox", "segm") if found.has("pred_masks") else ("bbox",)
        evaluator = MaskScoreCOCOEvaluator(name, tasks, distributed=False, use_fast_impl=False)
        evaluator.reset()
        evaluator.process([{"image_id": 1, "height": HEIGHT, "width": WIDTH}], [{"instances": found}])
        return evaluator.evaluate()

    yield evaluate
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def test_detections_can_be_drawn_and_evaluated(learned, evaluate):
    found = detect(learned.model, inference_inputs(learned.x))[0]
    plain = learned.x["image"].permute(1, 2, 0).byte().numpy()
    drawn = Visualizer(plain).draw_instance_predictions(found).get_image()
    assert drawn.shape == plain.shape
    results = evaluate(found)
    assert set(results) == ({"bbox", "segm"} if found.has("pred_masks") else {"bbox"})
    assert all(results[task]["AP50"] == pytest.approx(100) for task in results)


def test_nothing_found_can_be_drawn_and_evaluated(system, evaluate):
    model = system.model(system.score_thresh, 0.9999)
    inputs = inference_inputs(two_objects(), input_of(WHOLE_IMAGE))
    for found, size in zip(detect(model, inputs), [SIZE, (50, 70)], strict=True):
        assert len(found) == 0
        assert_well_formed(found, size)
        plain = np.full((*size, 3), 100, dtype=np.uint8)
        assert Visualizer(plain).draw_instance_predictions(found).get_image().shape == plain.shape
    results = evaluate(detect(model, inputs)[0])
    assert set(results) == ({"bbox", "segm"} if found.has("pred_masks") else {"bbox"})
    assert not any(results[task]["AP50"] > 0 for task in results)


def test_detectron2s_predictor_needs_the_options_and_a_file(learned, tmp_path):
    weights, config = tmp_path / "model.pth", tmp_path / "config.yaml"
    torch.save({"model": learned.model.state_dict()}, weights)
    config.write_text(learned.system.cfg("MODEL.WEIGHTS", str(weights), "INPUT.MIN_SIZE_TEST", HEIGHT).dump())
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.merge_from_file(str(config))
    image = learned.x["image"].permute(1, 2, 0).round().byte().numpy()
    found = DefaultPredictor(cfg)(image[:, :, ::-1] if cfg.INPUT.FORMAT == "RGB" else image)["instances"]
    assert_well_formed(found, SIZE)
    assert_finds(found, learned.x)
