"""Networks, detections, targets, losses and gradients equal AdelaiDet's on the same weights and images."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances

from centermask_solo.checkpoint import Checkpointer
from centermask_solo.modeling.solov2.decode import decode_batch, point_nms
from centermask_solo.modeling.solov2.losses import dice_terms
from centermask_solo.ops.masks import mask_iou
from centermask_solo.ops.nms import matrix_nms
from tests import parity
from tests.checkpoint.sources import detectors


def _mismatches(case, values):
    """The recorded arrays that ``values`` are further from than allowed: {name: (difference, tolerance)}."""
    differences = {k: (parity.compare(case.arrays, k, v), case.case["tolerance"][k]) for k, v in values.items()}
    return {k: (d, t) for k, (d, t) in differences.items() if not d <= t}


def _image(spec):
    image = parity.image(spec["seed"], spec["height"], spec["width"])
    return torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)


def test_networks(r50_case):
    model = r50_case.model
    images = model.preprocess_image([{"image": _image(spec)} for spec in r50_case.case["images"]]).tensor
    with torch.no_grad():
        features = model.backbone(images)
        predictions = model.predict(images)
    values = {"input": images, "mask_features": predictions.mask_features}
    values |= {name: features[name] for name in ("p2", "p3", "p4", "p5", "p6")}
    values |= {f"category_logits_{i}": x for i, x in enumerate(predictions.class_logits)}
    values |= {f"kernels_{i}": x for i, x in enumerate(predictions.kernels)}
    assert _mismatches(r50_case, {k: v.numpy() for k, v in values.items()}) == {}


def _input(case):
    spec = case.case["images"][0]
    return {"image": _image(spec), "height": spec["output_height"], "width": spec["output_width"]}


@pytest.fixture(scope="module", params=[False, True], ids=["contiguous", "channels_last"])
def double(request, r50_case):
    """What the model finds in float64, as pixels at a mask's threshold amplify what the processor rounds in float32."""
    memory_format = torch.channels_last if request.param else torch.contiguous_format
    model, seen = copy.deepcopy(r50_case.model).double().to(memory_format=memory_format), []
    predict = model.predict
    model.predict = lambda images: seen.append(predict(images)) or seen[0]
    with torch.no_grad():
        (found,) = model([_input(r50_case)])
    (predictions,) = seen
    return SimpleNamespace(predictions=predictions, instances=found["instances"])


def test_decoding(r50_case, double):
    logits, kernels, mask_features = double.predictions
    local_maxima = {f"point_nms_{i}": point_nms(x.sigmoid()).numpy() for i, x in enumerate(logits)}
    assert _mismatches(r50_case, local_maxima) == {}
    node = r50_case.cfg.MODEL.SOLOV2
    candidates = next(
        decode_batch(
            logits,
            kernels,
            mask_features,
            strides=node.STRIDES,
            score_thresh=node.SCORE_THRESH_TEST,
            mask_thresh=node.MASK_THRESH_TEST,
            max_candidates=node.PRE_NMS_TOPK_TEST,
        )
    )
    decayed = matrix_nms(mask_iou(candidates.pred_masks), candidates.pred_classes, candidates.scores)
    values = {
        "candidate_scores_0": candidates.scores,
        "candidate_class_counts_0": candidates.pred_classes.bincount(minlength=80),
        "candidate_areas_0": candidates.pred_masks.flatten(1).sum(1).sort(descending=True).values,
        "decayed_scores_0": decayed.sort(descending=True).values,
    }
    assert _mismatches(r50_case, {k: v.numpy() for k, v in values.items()}) == {}


def test_detections(r50_case, double):
    case, found, given = r50_case, double.instances, _input(r50_case)
    height, width = given["height"], given["width"]
    assert found.image_size == (height, width)
    values = {
        "scores_0": found.scores,
        "classes_0": found.pred_classes,
        "boxes_0": found.pred_boxes.tensor,
        "mask_areas_0": found.pred_masks.flatten(1).sum(1),
    }
    assert _mismatches(case, {k: v.numpy() for k, v in values.items()}) == {}
    for mask, counts in zip(found.pred_masks.numpy(), case.arrays["masks_0"], strict=True):
        expected = mask_util.decode({"size": [height, width], "counts": str(counts)}).astype(bool)
        assert (mask & expected).sum() / (mask | expected).sum() >= case.case["mask_iou"]


def _state(model):
    """All that a model's networks compute with, also what checkpoints lack."""
    return dict(model.named_parameters()) | dict(model.named_buffers())


@pytest.mark.slow
@pytest.mark.parametrize("make", [detectors.solo, detectors.mmdet])
def test_detections_with_the_weights_in_other_names(r50_case, make, tmp_path, caplog):
    """The recorded checkpoint as the original repository and mmdetection would have written it."""
    torch.save({"state_dict": detectors.renamed(r50_case.model.state_dict(), make)}, tmp_path / "x.pth")
    model = copy.deepcopy(r50_case.model)
    for value in model.state_dict().values():
        value.fill_(torch.nan)  # which the file is to replace
    Checkpointer(model).load(str(tmp_path / "x.pth"))
    assert "other images than the config gives" in caplog.text  # recorded are those of AdelaiDet, in BGR
    expected, found = _state(r50_case.model), _state(model)
    assert found.keys() == expected.keys()
    assert [name for name, value in found.items() if not torch.equal(value, expected[name])] == []
    with torch.no_grad():  # to the last bit those of the recorded names, which equal the recorded ones
        (a,), (b,) = (x([_input(r50_case)]) for x in (model, r50_case.model))
    assert len(a["instances"]) > 10
    for name, value in a["instances"].get_fields().items():
        assert torch.equal(*(getattr(x, "tensor", x) for x in (value, b["instances"].get(name)))), name


def _recorded_gradients(r50_case):
    return [x.removeprefix("grad ") for x in r50_case.case["tolerance"] if x.startswith("grad ")]


@pytest.fixture(scope="module")
def training(r50_case):
    """One training step of the recorded batch: targets, dice terms, losses and gradients."""
    model, arrays = r50_case.model, r50_case.arrays
    inputs = []
    for i, spec in enumerate(r50_case.case["training"]["images"]):
        height, width, count = spec["height"], spec["width"], spec["instances"]
        masks = np.unpackbits(arrays[f"gt_masks_{i}"], axis=1)[:, : height * width].reshape(count, height, width)
        instances = Instances((height, width))
        instances.gt_boxes = Boxes(torch.from_numpy(arrays[f"gt_boxes_{i}"]))
        instances.gt_classes = torch.from_numpy(arrays[f"gt_classes_{i}"])
        instances.gt_masks = BitMasks(torch.from_numpy(masks.astype(bool)))
        inputs.append({"image": _image(spec), "instances": instances})
    model.train().double()  # rounding turns ReLUs on and off, and gradients with them
    try:
        predictions = model.predict(model.preprocess_image(inputs).tensor)
        targets = model.label(predictions, [x["instances"] for x in inputs])
        losses = model.losses(predictions, targets)
        dice = dice_terms(predictions.kernels, predictions.mask_features, targets).detach()
        gradients = parity.gradients(model, losses, _recorded_gradients(r50_case))
    finally:
        model.eval().float()
    return SimpleNamespace(
        targets=targets, losses=losses, dice=dice, gradients=gradients, sides=model.ins_head.num_grids
    )


def _by_image_cell_area(order, area, *others):
    """The arrays with their rows sorted by (image, cell, area): the order of the recorded terms is free."""
    rows = np.lexsort((area, order[:, 1], order[:, 0]))
    return [x[rows] for x in (order, area, *others)]


def test_class_targets(r50_case, training):
    classes = {f"target_category_{i}": x.numpy() for i, x in enumerate(training.targets.classes)}
    positive = {f"target_positive_{i}": x.flatten(1).numpy() != 80 for i, x in enumerate(training.targets.classes)}
    assert _mismatches(r50_case, classes | positive) == {}


def test_dice_terms(r50_case, training):
    targets, arrays = training.targets, r50_case.arrays
    first = 0
    for level, side in enumerate(training.sides):
        of_level = (targets.term_cells >= first) & (targets.term_cells < first + side * side)
        order = torch.stack((targets.term_images, targets.term_cells - first), dim=1)[of_level].numpy()
        masks = targets.masks[targets.term_instances[of_level]].numpy()
        got = _by_image_cell_area(order, masks.sum((1, 2)), training.dice[of_level].numpy())
        names = [f"{name}_{level}" for name in ("target_order", "target_mask_area", "dice")]
        expected = _by_image_cell_area(*(arrays[name] for name in names))
        recorded = SimpleNamespace(arrays=dict(zip(names, expected, strict=True)), case=r50_case.case)
        assert _mismatches(recorded, dict(zip(names, got, strict=True))) == {}

        # The recorded masks are samples of the stack in the reference's own order of terms, so ours takes that order.
        ours = np.lexsort((masks.sum((1, 2)), order[:, 1], order[:, 0]))
        theirs = np.lexsort((arrays[names[1]], arrays[names[0]][:, 1], arrays[names[0]][:, 0]))
        in_their_order = np.empty_like(masks)
        in_their_order[theirs] = masks[ours]
        assert _mismatches(r50_case, {f"target_mask_{level}": in_their_order.astype(np.uint8)}) == {}
        first += side * side


def test_losses(r50_case, training):
    # The case's own tolerances are 10^-3 of the losses, written as multiples of 10^-6.
    assert _mismatches(r50_case, {k: v.detach().numpy() for k, v in training.losses.items()}) == {}
    for name, value in training.losses.items():
        assert value.item() == pytest.approx(r50_case.arrays[name].item(), rel=1e-5)


def test_gradients(r50_case, training):
    assert len(training.gradients) == 10
    assert _mismatches(r50_case, {f"grad {k}": v.numpy() for k, v in training.gradients.items()}) == {}
