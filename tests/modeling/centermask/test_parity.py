"""The recorded cases: what the authors' CenterMask computes on the same weights and images."""

import fnmatch
import json
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage

from centermask_solo.checkpoint import Checkpointer
from centermask_solo.modeling.centermask.heads import predict_class_masks
from centermask_solo.modeling.centermask.targets import mask_iou_targets
from tests import parity
from tests.modeling.centermask.helpers import read_config

GOLDENS = Path(__file__).parents[2] / "goldens"
CONFIGS = {
    "centermask_lite_V_19_eSE": "centermask_lite_V_19_eSE_FPN_ms_4x",
    "centermask_V_39_eSE": "centermask_V_39_eSE_FPN_ms_3x",
}
LEVELS = ("p3", "p4", "p5", "p6", "p7")


@pytest.fixture(scope="module", params=CONFIGS)
def case(request, tmp_path_factory):
    """``model`` (on the CPU, in evaluation mode), ``spec`` (the json) and ``arrays`` (the recorded figures)."""
    path = GOLDENS / f"{request.param}.json"
    spec = json.loads(path.read_text())
    cfg = read_config(CONFIGS[request.param])
    renamed = cfg.__dict__[CfgNode.RENAMED_KEYS]
    for key, value in spec["settings"].items():
        cfg.merge_from_list([renamed.get(key, key), value])
    cfg.MODEL.DEVICE = "cpu"
    weights = tmp_path_factory.mktemp("centermask") / "weights.pth"
    torch.save({"model": {k: torch.from_numpy(v) for k, v in parity.checkpoint(path).items()}}, weights)
    model = build_model(cfg).eval()
    Checkpointer(model, complete=True).load(str(weights))
    assert set(model.state_dict()) == set(spec["parameters"])
    with np.load(path.with_suffix(".npz")) as arrays:
        return SimpleNamespace(model=model, spec=spec, arrays=dict(arrays))


def mismatches(case, values):
    """What is further from the recorded figures than allowed: {name: (difference, tolerance)}."""
    wrong = {}
    for name, value in values.items():
        value = value.detach().numpy() if isinstance(value, torch.Tensor) else value
        tolerance = [t for pattern, t in case.spec["tolerances"]["values"].items() if fnmatch.fnmatch(name, pattern)][
            -1
        ]
        if "/losses/" in name:
            expected = float(case.arrays[name])
            difference = abs(float(value) - expected) / max(1.0, abs(expected))
        else:
            difference = parity.compare(case.arrays, name, value)
        if not difference <= tolerance:
            wrong[name] = (difference, tolerance)
    return wrong


def image_of(spec):
    image = parity.image(spec["seed"], spec["height"], spec["width"])
    return torch.from_numpy(image).permute(2, 0, 1).float()


@pytest.fixture(scope="module")
def inference(case):
    """Everything that inference computes, by the names of the record."""
    model, values = case.model, {}
    inputs = [
        {"image": image_of(x), "height": x["output_height"], "width": x["output_width"]}
        for x in case.spec["input"]["images"]
    ]
    fcos, heads = model.proposal_generator, model.roi_heads
    with torch.no_grad():
        images = model.preprocess_image(inputs)
        bottom_up, features = model.backbone.bottom_up(images.tensor), model.backbone(images.tensor)
        predictions = fcos.predict(features)
        proposals = fcos.inference(predictions, images.image_sizes)
        values |= {"input": images.tensor} | {f"backbone/{k}": v for k, v in bottom_up.items()}
        values |= {f"fpn/{f}": features[f] for f in LEVELS}
        for i, name in enumerate(LEVELS):
            values[f"fcos/{name}/logits"] = predictions.class_logits[i]
            values[f"fcos/{name}/box"] = predictions.ltrb[i]
            values[f"fcos/{name}/centerness"] = predictions.centerness_logits[i]
        for n, x in enumerate(proposals):
            values |= {f"proposals/image{n}/{k}": v for k, v in detections_of(x).items()}
            values[f"proposals/image{n}/locations"] = x.locations
        for n, x in enumerate(model.inference(inputs, do_postprocess=False)):
            values |= {f"raw/image{n}/{k}": v for k, v in detections_of(x).items()}
            values |= {f"raw/image{n}/masks": x.pred_masks, f"raw/image{n}/mask_scores": x.mask_scores}
        finals = [x["instances"] for x in model(inputs)]
        for n, x in enumerate(finals):
            values |= {f"final/image{n}/{k}": v for k, v in detections_of(x).items()}
            values[f"final/image{n}/mask_scores"] = x.mask_scores
        values |= regions_of(case, heads, features, images.image_sizes)
    return values, finals


def detections_of(x):
    return {"boxes": x.pred_boxes.tensor, "scores": x.scores, "classes": x.pred_classes}


def regions_of(case, heads, features, image_sizes):
    """The RoI branch alone, with the masks and IoUs of all classes."""
    regions = case.spec["regions"]["images"]
    boxes = [Boxes(torch.tensor(x["boxes"])) for x in regions]
    classes = torch.cat([torch.tensor(x["classes"]) for x in regions])
    scores = torch.cat([torch.tensor(x["scores"]) for x in regions])
    pooled = heads.mask_pooler([features[f] for f in heads.mask_in_features], boxes, image_sizes)
    masks = predict_class_masks(heads.mask_head, pooled, classes).sigmoid()
    ious = heads.maskiou_head(pooled, masks, classes)
    return {
        "regions/levels": heads.mask_pooler.assign_levels(boxes, image_sizes),
        "regions/pooled": pooled,
        "regions/mask_logits": heads.mask_head.layers(pooled),
        "regions/mask_prob": masks[:, None],
        "regions/mask_iou": heads.maskiou_head.maskiou(heads.maskiou_head.hidden(pooled, masks)),
        "regions/mask_scores": scores * ious,
    }


def test_inference(case, inference):
    values, _ = inference
    recorded = {k for k in case.spec["arrays"] if not k.startswith("train/")}
    assert recorded - set(values) == {"final/image0/masks", "final/image0/mask_areas"}  # by the next test
    assert mismatches(case, values) == {}


def test_full_size_masks(case, inference):
    """At most 4 pixels plus 1 % of the union may differ: pixels whose probability is at the threshold."""
    for n, result in enumerate(inference[1]):
        size = list(result.image_size)
        counts = case.arrays[f"final/image{n}/masks"]
        expected = np.stack([mask_util.decode({"size": size, "counts": bytes(c)}).astype(bool) for c in counts])
        got = result.pred_masks.numpy()
        assert got.shape == expected.shape
        different = (got != expected).sum((1, 2))
        assert (different <= 4 + 0.01 * (got | expected).sum((1, 2))).all()
        assert np.abs(got.sum((1, 2)) - case.arrays[f"final/image{n}/mask_areas"]).max() <= different.max()


def ground_truth(case):
    inputs = []
    for spec, objects in zip(case.spec["training"]["images"], case.spec["training"]["ground_truth"], strict=True):
        x = Instances((spec["height"], spec["width"]))
        x.gt_boxes = Boxes(torch.tensor([o["box"] for o in objects]))
        x.gt_classes = torch.tensor([o["class"] for o in objects])
        x.gt_masks = PolygonMasks([[np.array(p) for p in o["polygons"]] for o in objects])
        inputs.append({"image": image_of(spec), "instances": x})
    return inputs


@pytest.fixture(scope="module")
def training(case):
    """Everything that a training step computes, by the names of the record."""
    if "training" not in case.spec:
        pytest.skip("inference alone was recorded")
    model, inputs, values = case.model, ground_truth(case), {}
    gt = [x["instances"] for x in inputs]
    fcos, heads = model.proposal_generator, model.roi_heads
    in_order = mock.patch.object(torch, "randperm", lambda n, device=None: torch.arange(n, device=device))
    model.train()
    try:
        with EventStorage(), in_order:
            images = model.preprocess_image(inputs)
            features = model.backbone(images.tensor)
            predictions = fcos.predict(features)
            targets = fcos.label(predictions, gt)
            detected = fcos.inference(predictions, images.image_sizes, fcos.train_limits)
            rois, roi_targets = heads.label(fcos(images, features, gt)[0], gt)
            losses = model(inputs)
            sum(losses.values()).backward()
        boxes = [x.proposal_boxes for x in rois]
        pooled = heads.mask_pooler([features[f] for f in heads.mask_in_features], boxes, images.image_sizes)
        logits = predict_class_masks(heads.mask_head, pooled, torch.cat([x.gt_classes for x in rois]))
        parameters = dict(model.named_parameters())
        norms = [parameters[n].grad.norm().item() for n in case.spec["training"]["trainable"]]
    finally:
        model.zero_grad()
        model.eval()
    values |= {f"train/losses/{k}": v for k, v in losses.items()}
    values["train/gradient_norms"] = np.log(np.array(norms) + 1e-6)
    values["train/rois/levels"] = heads.mask_pooler.assign_levels(boxes, images.image_sizes)
    values["train/rois/mask_prob"] = logits.sigmoid()[:, None]
    values["train/rois/mask_target_areas"] = roi_targets.masks.sum((1, 2))
    values["train/rois/mask_iou_targets"] = mask_iou_targets(logits, roi_targets)
    counts = torch.tensor([x[0, 0].numel() for x in predictions.class_logits])
    for n in range(len(inputs)):
        rows = (targets.classes[n] < fcos.num_classes).nonzero()[:, 0]
        of_image = {
            "locations": counts,
            "positives": rows,
            "labels": targets.classes[n][rows],
            "box_targets": targets.ltrb[n][rows],
            "centerness_targets": targets.centerness[n][rows],
            "rois/boxes": rois[n].proposal_boxes.tensor,
            "rois/gt": rois[n].gt_index,
        }
        of_image |= {f"proposals/{k}": v for k, v in detections_of(detected[n]).items()}
        values |= {f"train/image{n}/{k}": v for k, v in of_image.items()}
    return values


def test_training(case, training):
    recorded = {k for k in case.spec["arrays"] if k.startswith("train/")}
    assert recorded == set(training)
    assert mismatches(case, training) == {}


def test_every_parameter_that_the_authors_train_is_trained(case):
    if "training" not in case.spec:
        pytest.skip("inference alone was recorded")
    trained = {n for n, p in case.model.named_parameters() if p.requires_grad}
    assert trained == set(case.spec["training"]["trainable"])
