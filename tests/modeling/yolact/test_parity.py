"""Networks, detections, masks, targets, losses and gradients equal the authors' code on the same weights and images."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances

from centermask_solo.modeling.yolact.decode import decode_full_masks, frame_of, mask_probabilities
from tests import parity

SIZE = 550
GRADIENTS = {  # the reference's parameters, and ours
    "backbone.conv1.weight": "backbone.bottom_up.stem.conv1.weight",
    "backbone.layers.3.2.conv3.weight": "backbone.bottom_up.res5.2.conv3.weight",
    "fpn.lat_layers.0.weight": "backbone.fpn_lateral5.weight",
    "fpn.pred_layers.2.bias": "backbone.fpn_output3.bias",
    "fpn.downsample_layers.1.weight": "backbone.top_block.p7.weight",
    "proto_net.0.bias": "protonet.conv1.bias",
    "proto_net.10.weight": "protonet.prototypes.weight",
    "prediction_layers.0.upfeature.0.weight": "head.conv.weight",
    "prediction_layers.0.bbox_layer.weight": "head.box_pred.weight",
    "prediction_layers.0.conf_layer.bias": "head.class_logits.bias",
    "prediction_layers.0.mask_layer.weight": "head.mask_coefficients.weight",
    "semantic_seg_conv.weight": "sem_seg_head.predictor.weight",
}


def _mismatches(case, values):
    """The recorded arrays that ``values`` are further from than allowed: {name: (difference, tolerance)}."""
    tolerances = {k: info["tolerance"] for k, info in case.case["arrays"].items()}
    differences = {k: (parity.compare(case.arrays, k, np.asarray(v)), tolerances[k]) for k, v in values.items()}
    return {k: (d, t) for k, (d, t) in differences.items() if not d <= t}


def _image(spec):
    image = parity.image(spec["seed"], spec["height"], spec["width"])[:, :, ::-1]  # RGB
    return torch.from_numpy(image.copy()).permute(2, 0, 1)


def _assert_same_masks(masks, counts):
    for mask, count in zip(masks.numpy(), counts.tolist(), strict=True):
        expected = mask_util.decode({"size": list(mask.shape), "counts": count}).astype(bool)
        union = (mask | expected).sum()
        assert union == 0 or (mask & expected).sum() / union >= 0.98


def _center_form(boxes):
    return torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], dim=1)


def test_networks(r50_case):
    model = r50_case.model
    with torch.no_grad():
        images = model.preprocess_image([{"image": _image(r50_case.case["image"])}]).tensor
        features = model.backbone.bottom_up(images)
        levels = model.backbone(images)
        predictions = model.predict(images)
    values = {"input": images, "priors": _center_form(predictions.anchors)}
    values |= {f"backbone/c{i}": features[f"res{i}"] for i in (3, 4, 5)}
    values |= {f"fpn/p{i}": levels[f"p{i}"] for i in (3, 4, 5, 6, 7)}
    values |= {
        "proto": predictions.prototypes.permute(0, 2, 3, 1),
        "loc": predictions.box_deltas,
        "conf_logits": predictions.class_logits,
        "conf": predictions.class_logits.softmax(dim=2),
        "mask_coeff": predictions.mask_coefficients,
        "boxes": model.box_transform.apply_deltas(predictions.box_deltas[0], predictions.anchors),
    }
    assert _mismatches(r50_case, values) == {}


@pytest.mark.parametrize("channels_last", [False, True])
def test_detections(r50_case, channels_last):
    model = r50_case.model.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    inputs = [{"image": _image(r50_case.case["image"])}]
    with torch.no_grad():
        predictions = model.predict(model.preprocess_image(inputs).tensor)
        kept = model.inference(predictions, [(SIZE, SIZE)])[0]
        found = model(inputs)[0]["instances"]
    logits = kept.mask_coefficients @ predictions.prototypes[0].flatten(1)
    values = {
        "nms/box": kept.pred_boxes.tensor / SIZE,
        "nms/score": kept.scores,
        "nms/class": kept.pred_classes,
        "nms/mask": kept.mask_coefficients,
        "nms/mask_logits": logits.unflatten(1, predictions.prototypes.shape[2:]),
        "detections/boxes_float": found.pred_boxes.tensor,
        "detections/boxes": found.pred_boxes.tensor.trunc(),
        "detections/scores": found.scores,
        "detections/classes": found.pred_classes,
        "detections/mask_area": found.pred_masks.flatten(1).sum(1),
    }
    assert _mismatches(r50_case, values) == {}
    _assert_same_masks(found.pred_masks, r50_case.arrays["detections/mask_rle"])


def test_masks_of_given_prototypes(r50_case):
    spec, arrays = r50_case.case["assembly"], r50_case.arrays
    images = [parity.image(spec["seed"] + i, 138, 138) for i in range(11)]
    channels = np.concatenate(images, axis=2)[:, :, :32].astype(np.float32)
    prototypes = torch.from_numpy(((channels - 127) / 64).clip(0)).permute(2, 0, 1)
    boxes, coefficients = (torch.from_numpy(arrays[f"assembly/input/{k}"]) for k in ("boxes", "coeffs"))
    output_size = (spec["height"], spec["width"])
    soft = mask_probabilities(coefficients, prototypes, boxes)
    masks = decode_full_masks(coefficients, prototypes, boxes, output_size)
    clipped = Boxes(boxes * frame_of(output_size, boxes))
    clipped.clip(output_size)
    values = {
        "assembly/soft": soft,
        "assembly/soft_sum": soft.sum(dim=(1, 2)),
        "assembly/boxes": clipped.tensor.trunc(),
        "assembly/mask_area": masks.flatten(1).sum(1),
    }
    assert _mismatches(r50_case, values) == {}
    _assert_same_masks(masks, arrays["assembly/mask_rle"])


def _training_input(spec):
    gt = spec["ground_truth"]
    instances = Instances((spec["height"], spec["width"]))
    instances.gt_boxes = Boxes(torch.tensor([x["bbox"] for x in gt], dtype=torch.float32))
    instances.gt_classes = torch.tensor([x["class"] for x in gt])
    instances.gt_is_crowd = torch.tensor([bool(x["iscrowd"]) for x in gt])
    masks = np.stack([mask_util.decode(x["segmentation"]) for x in gt]).astype(bool)
    instances.gt_masks = BitMasks(torch.from_numpy(masks))
    return {"image": _image(spec), "instances": instances}


@pytest.fixture(scope="module")
def training(r50_case):
    """One training step of the recorded batch: predictions, targets, losses and gradients."""
    model = r50_case.model
    inputs = [_training_input(x) for x in r50_case.case["losses"]["images"]]
    model.train().double()  # rounding turns ReLUs on and off, and gradients with them
    try:
        predictions = model.predict_for_training(model.preprocess_image(inputs).tensor)
        predictions = predictions._make(x.float() for x in predictions)
        targets = model.label(predictions, [x["instances"] for x in inputs])
        losses = model.losses(predictions, targets)
        gradients = parity.gradients(model, losses, list(GRADIENTS.values()))
    finally:
        model.eval().float()
    return SimpleNamespace(predictions=predictions, targets=targets, losses=losses, gradients=gradients)


def test_targets(r50_case, training):
    targets, values = training.targets, {"semseg/logits": training.predictions.sem_seg_logits.detach()}
    first_object = 0
    for i, image in enumerate(r50_case.case["losses"]["images"]):
        here = targets.images == i
        values |= {
            f"matching/{i}/positive": targets.anchors[here],
            f"matching/{i}/gt_index": targets.instances[here] - first_object,
            f"matching/{i}/class": targets.labels[i, targets.anchors[here]],
            f"matching/{i}/neutral": (targets.labels[i] == -1).nonzero()[:, 0],
            f"ohem/{i}/negative": targets.negatives[i].nonzero()[:, 0],
        }
        first_object += sum(not x["iscrowd"] for x in image["ground_truth"])
    assert _mismatches(r50_case, values) == {}


def test_losses(r50_case, training):
    assert r50_case.case["losses"]["terms"] == ["B", "C", "M", "S"]
    losses = [training.losses[name].item() for name in ("loss_box", "loss_class", "loss_mask", "loss_sem_seg")]
    assert _mismatches(r50_case, {"losses": np.array(losses)}) == {}
    assert losses == pytest.approx(r50_case.arrays["losses"].tolist(), rel=1e-5)


def test_gradients(r50_case, training):
    recorded = {name for name in r50_case.case["arrays"] if name.startswith("grad/")}
    assert recorded == {f"grad/{name}" for name in GRADIENTS}
    values = {f"grad/{theirs}": training.gradients[ours] for theirs, ours in GRADIENTS.items()}
    assert _mismatches(r50_case, values) == {}
