"""What holds for every system. A system is one entry of a table: ``models.SYSTEMS``."""

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
from detectron2.structures import Boxes, BoxMode, Instances, PolygonMasks, pairwise_iou
from detectron2.utils.visualizer import Visualizer
from PIL import Image
from pycocotools import mask as rle
from torch import nn

from centermask_solo import add_centermask_solo_config
from centermask_solo.data.mapper import InstanceMapper
from centermask_solo.evaluation import MaskScoreCOCOEvaluator
from centermask_solo.modeling.instance_nms import INSTANCE_NMS_REGISTRY
from centermask_solo.utils.errors import ConfigError
from tests.modeling.inputs import empty_instances, input_of, instances_of, rectangles
from tests.modeling.models import SYSTEMS, System, detect, gradients_of, learn, losses_of

HEIGHT, WIDTH = SIZE = (96, 128)
CORNERS = [(8, 8, 56, 60), (40, 70, 90, 120)]  # y0, x0, y1, x1
EMPTY = empty_instances(64, 64)
ONE_PIXEL = instances_of(rectangles(64, 64, (7, 9, 8, 10)), [2])
HAIR = instances_of(rectangles(64, 64, (30, 0, 31, 64)), [1])
WHOLE_IMAGE = instances_of(rectangles(50, 70, (0, 0, 50, 70)), [0])


def two_objects(classes=(0, 2)):
    return input_of(instances_of(rectangles(HEIGHT, WIDTH, *CORNERS), list(classes)))


def inference_inputs(*inputs):
    return [{"image": x["image"].clone()} for x in inputs]


class Learned(NamedTuple):
    system: System
    model: nn.Module
    history: list[float]
    x: dict


@pytest.fixture(params=SYSTEMS.values(), ids=SYSTEMS.keys())
def system(request):
    return request.param


@pytest.fixture(scope="module", params=SYSTEMS.values(), ids=SYSTEMS.keys())
def learned(request):
    """A model that overfits an image with two objects, for inference only."""
    x = two_objects()
    return Learned(request.param, *learn(request.param, [x], num_classes=3), x)


def mask_ious(a, b):
    a, b = a.flatten(1).float(), b.flatten(1).float()
    both = a @ b.T
    return both / (a.sum(1)[:, None] + b.sum(1) - both)


def overlaps(a, b):
    """The IoU of each detection of ``a`` with each object or detection of ``b``: of their masks, if ``a`` has any."""
    if not a.has("pred_masks"):
        return pairwise_iou(a.pred_boxes, b.gt_boxes if b.has("gt_boxes") else b.pred_boxes)
    return mask_ious(a.pred_masks, b.gt_masks.tensor if b.has("gt_masks") else b.pred_masks)


def assert_well_formed(found, size, num_classes=3):
    """Assert what evaluators, the Visualizer and users rely on."""
    count, (height, width) = len(found), size
    assert found.image_size == size
    assert {"pred_boxes", "scores", "pred_classes"} <= set(found.get_fields())
    assert isinstance(found.pred_boxes, Boxes)
    boxes = found.pred_boxes.tensor
    assert (boxes.dtype, boxes.shape) == (torch.float32, (count, 4))
    assert (found.scores.dtype, found.scores.shape) == (torch.float32, (count,))
    assert (found.pred_classes.dtype, found.pred_classes.shape) == (torch.int64, (count,))
    if found.has("pred_masks"):  # `detect` knows who has
        assert (found.pred_masks.dtype, found.pred_masks.shape) == (torch.bool, (count, height, width))
    assert (boxes >= 0).all() and (boxes <= torch.tensor([width, height, width, height])).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert ((found.pred_classes >= 0) & (found.pred_classes < num_classes)).all()
    assert found.scores.isfinite().all() and (found.scores.diff() <= 0).all()


def assert_finds(found, x):
    """Assert that the best detections are the objects of ``x``, each with an IoU above 60 %."""
    truth = x["instances"]
    best = found[: len(truth)]
    ious, objects = overlaps(best, truth).max(1)
    assert sorted(objects.tolist()) == list(range(len(truth)))
    assert torch.equal(best.pred_classes, truth.gt_classes[objects])
    assert ious.min() > 0.6
    assert best.scores.min() > 0.4


def assert_same(a, b, scores=1e-4, boxes=0.05, ious=0.99):
    """Assert the same detections in the same order, up to tolerances."""
    assert a.image_size == b.image_size
    assert torch.equal(a.pred_classes, b.pred_classes)
    torch.testing.assert_close(a.scores, b.scores, rtol=0, atol=scores)
    torch.testing.assert_close(a.pred_boxes.tensor, b.pred_boxes.tensor, rtol=0, atol=boxes)
    if a.has("mask_scores"):
        torch.testing.assert_close(a.mask_scores, b.mask_scores, rtol=0, atol=scores)
    assert a.has("pred_masks") == b.has("pred_masks")
    if not a.has("pred_masks"):
        return
    drawn = a.pred_masks.flatten(1).any(1) | b.pred_masks.flatten(1).any(1)
    assert (mask_ious(a.pred_masks[drawn], b.pred_masks[drawn]).diagonal() >= ious).all()


# Training


@pytest.mark.parametrize(
    "truths",
    [[EMPTY], [EMPTY, WHOLE_IMAGE], [WHOLE_IMAGE, EMPTY], [ONE_PIXEL, HAIR], [two_objects()["instances"], WHOLE_IMAGE]],
    ids=["empty", "first empty", "last empty", "one pixel and a hair", "two sizes"],
)
def test_every_parameter_learns_from_any_batch(system, truths):
    model = system.model("MODEL.BACKBONE.FREEZE_AT", 0)
    losses = losses_of(model, [input_of(x, seed=i) for i, x in enumerate(truths)])
    assert set(losses) == system.object_losses | {system.background_loss}
    assert all(x.isfinite() and x.dtype == torch.float32 and x.shape == () for x in losses.values())
    assert losses[system.background_loss] > 0
    if truths == [EMPTY]:
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
    cfg = system.cfg("INPUT.MASK_FORMAT", mask_format, "INPUT.MIN_SIZE_TRAIN", (HEIGHT,), "INPUT.RANDOM_FLIP", "none")
    mapper, model = InstanceMapper(cfg, is_train=True), system.model()
    crowd, thing = annotation(*CORNERS[0], True), annotation(*CORNERS[1], False)

    def losses(*annotations):
        record = {"file_name": str(tmp_path / "image.png"), "height": HEIGHT, "width": WIDTH, "image_id": 1}
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


def test_it_overfits_an_image(learned):
    assert learned.history[-1] < learned.system.loss_bound < 0.6 * learned.history[0]
    assert_finds(detect(learned.model, inference_inputs(learned.x))[0], learned.x)


@pytest.mark.slow
def test_it_overfits_an_image_of_one_class(system):
    x = two_objects([0, 0])
    model, history = learn(system, [x], num_classes=1)
    assert history[-1] < system.loss_bound < 0.6 * history[0]
    assert_finds(detect(model, inference_inputs(x))[0], x)


# Inference


def test_mask_scores_are_the_quality_of_the_masks(learned):
    """On the memorized image: the score times the IoU with the object."""
    found, truth = detect(learned.model, inference_inputs(learned.x))[0][:2], learned.x["instances"]
    assert found.has("mask_scores") is learned.system.has_mask_scores
    if learned.system.has_mask_scores:
        ious = mask_ious(found.pred_masks, truth.gt_masks.tensor).amax(1)
        torch.testing.assert_close(found.mask_scores, found.scores * ious, rtol=0, atol=0.2)


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


def test_a_batch_equals_its_images(learned):
    inputs = inference_inputs(learned.x, learned.x)
    inputs[1]["image"] = inputs[1]["image"][:, :90, :120]  # of another size, but padded alike
    together = detect(learned.model, inputs)
    for x, expected in zip(inputs, together, strict=True):
        assert len(expected) > 1
        assert_same(detect(learned.model, [x])[0], expected)


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
    """Scores within 0.05, boxes within 2 pixels, masks with an IoU of 0.9 or more."""
    exact = detect(learned.model, inference_inputs(learned.x))[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = detect(learned.model, inference_inputs(learned.x))[0]
    assert_well_formed(half, SIZE)
    assert_finds(half, learned.x)
    assert_same(half[half.scores > 0.4], exact[exact.scores > 0.4], scores=0.05, boxes=2, ious=0.9)


def coco_dataset(folder, x):
    """Register the image of ``x`` and its objects; return the name of the dataset."""
    truth, annotations = x["instances"], []
    for i, (y0, x0, y1, x1) in enumerate(CORNERS):
        w, h = x1 - x0, y1 - y0
        polygon = [x0, y0, x1, y0, x1, y1, x0, y1]
        ids = {"id": i + 1, "image_id": 1, "category_id": truth.gt_classes[i].item() + 1, "iscrowd": 0}
        annotations.append({**ids, "bbox": [x0, y0, w, h], "area": w * h, "segmentation": [polygon]})
    categories = [{"id": i + 1, "name": name} for i, name in enumerate("abc")]
    images = [{"id": 1, "file_name": "image.png", "height": HEIGHT, "width": WIDTH}]
    content = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    (folder / "truth.json").write_text(json.dumps(content))
    register_coco_instances("meta_archs", {}, str(folder / "truth.json"), str(folder))
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
