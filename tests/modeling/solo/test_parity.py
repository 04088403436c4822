"""Networks, detections, targets, losses and gradients equal the authors' on the same weights and images."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
import torch.nn.functional as F
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances

from centermask_solo import add_centermask_solo_config
from centermask_solo.checkpoint import Checkpointer, find_source
from centermask_solo.modeling.solo.decode import decode_batch
from centermask_solo.modeling.solo.losses import dice_terms
from centermask_solo.modeling.solov2.decode import point_nms
from centermask_solo.ops.levels import resize_levels
from centermask_solo.ops.masks import mask_iou
from centermask_solo.ops.nms import matrix_nms
from tests import parity

ROOT = Path(__file__).parents[3]
CASES = {"solo_R50": "solo_R_50_3x", "decoupled_solo_R50": "decoupled_solo_R_50_3x"}
RENAMED = {"pixel_mean": "MODEL.PIXEL_MEAN", "pixel_std": "MODEL.PIXEL_STD", "max_per_img": "TEST.DETECTIONS_PER_IMAGE"}
RENAMED |= {"score_thr": "MODEL.SOLO.SCORE_THRESH_TEST", "update_thr": "MODEL.SOLO.NMS.SCORE_THRESH"}


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    """``model`` (on the CPU, in evaluation mode), ``json`` and ``arrays`` (the reference's figures)."""
    path = ROOT / "tests" / "goldens" / f"{request.param}.json"
    recorded = json.loads(path.read_text())
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.merge_from_file(str(ROOT / "configs" / "SOLO" / f"{CASES[request.param]}.yaml"))
    cfg.MODEL.DEVICE = "cpu"
    cfg.merge_from_list([x for key, value in recorded["settings"].items() for x in (RENAMED[key], value)])
    weights = tmp_path_factory.mktemp("solo") / "x.pth"
    state = {k: torch.from_numpy(v) for k, v in parity.checkpoint(path).items()}
    torch.save({"state_dict": state, "meta": {}, "optimizer": {}}, weights)
    model = build_model(cfg).eval()
    Checkpointer(model).load(str(weights))  # warns of ten times the published standard deviation
    with np.load(path.with_suffix(".npz")) as arrays:
        return SimpleNamespace(model=model, cfg=cfg, json=recorded, arrays=dict(arrays), state=state)


def _mismatches(case, values):
    """The recorded arrays that ``values`` are further from than allowed: {name: (difference, tolerance)}."""
    values = {k: v.detach().numpy() if isinstance(v, torch.Tensor) else v for k, v in values.items()}
    differences = {k: (parity.compare(case.arrays, k, v), case.json["tolerance"][k]) for k, v in values.items()}
    return {k: (d, t) for k, (d, t) in differences.items() if not d <= t}


def _image(spec):
    image = parity.image(spec["seed"], spec["height"], spec["width"])[:, :, ::-1]
    return torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)


def _all_mask_logits(predictions):
    """Every mask map under its recorded name."""
    if hasattr(predictions, "kernels"):
        sides = [x.shape[-1] for x in predictions.class_logits]
        masks = predictions.masks_of(0)
        return {f"mask_logits_{i}": masks.logits(i, torch.arange(s * s))[0][None] for i, s in enumerate(sides)}
    columns = {f"mask_logits_x_{i}": x for i, x in enumerate(predictions.column_logits)}
    return columns | {f"mask_logits_y_{i}": x for i, x in enumerate(predictions.row_logits)}


def test_networks(case):
    model = case.model
    images = model.preprocess_image([{"image": _image(spec)} for spec in case.json["images"]]).tensor
    with torch.no_grad():
        features = model.backbone(images)
        predictions = model.predict(images)
        head = model.ins_head
        levels = resize_levels([features[f] for f in model.instance_in_features], head.in_strides, head.level_strides)
    masks = _all_mask_logits(predictions)
    values = {"input": images, "level_0": levels[0], "level_4": levels[4]}
    values |= {name: features[name] for name in ("p2", "p3", "p4", "p5", "p6")}
    values |= {f"category_logits_{i}": x for i, x in enumerate(predictions.class_logits)} | masks
    size = [side // 4 for side in images.shape[2:]]
    for name, logits in masks.items():
        if not name.endswith(("_0", "_1")):
            resized = F.interpolate(logits.sigmoid(), size, mode="bilinear", align_corners=False)
            values[name.replace("logits", "probabilities")] = resized
    recorded = {k.split(":")[0] for k in case.arrays if k.startswith(("input", "p2", "level", "mask_", "category"))}
    assert {k for k in recorded if k != "mask_areas_0"} <= values.keys()
    assert _mismatches(case, values) == {}


@pytest.fixture(scope="module")
def double(case):
    """The predictions in float64, as pixels at a mask's threshold amplify what the processor rounds in float32."""
    model = case.model.double()
    try:
        images = model.preprocess_image([{"image": _image(spec)} for spec in case.json["images"]])
        with torch.no_grad():
            return SimpleNamespace(images=images, predictions=model.predict(images.tensor))
    finally:
        model.float()


def test_decoding(case, double):
    node, predictions = case.cfg.MODEL.SOLO, double.predictions
    local_maxima = {f"point_nms_{i}": point_nms(x.sigmoid()) for i, x in enumerate(predictions.class_logits)}
    assert _mismatches(case, local_maxima) == {}
    height, width = double.images.tensor.shape[2:]
    candidates = next(
        decode_batch(
            predictions,
            size=(height // 4, width // 4),
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
    assert _mismatches(case, values) == {}


def test_detections(case, double):
    spec, model = case.json["images"][0], case.model
    height, width = spec["output_height"], spec["output_width"]
    kept = model.inference(double.predictions, double.images.image_sizes)[0]
    found = model.postprocess(kept, double.predictions, 0, (height, width))
    assert found.image_size == (height, width)
    values = {
        "scores_0": found.scores,
        "classes_0": found.pred_classes,
        "boxes_0": found.pred_boxes.tensor,
        "mask_areas_0": found.pred_masks.flatten(1).sum(1),
    }
    assert _mismatches(case, values) == {}
    for mask, counts in zip(found.pred_masks.numpy(), case.arrays["masks_0"], strict=True):
        expected = mask_util.decode({"size": [height, width], "counts": str(counts)}).astype(bool)
        assert (mask & expected).sum() / (mask | expected).sum() >= case.json["mask_iou"]


def _recorded_gradients(case):
    """Our name of each parameter whose gradient is recorded, by theirs."""
    theirs = [name.removeprefix("grad ") for name in case.json["tolerance"] if name.startswith("grad ")]
    return {x: next(iter(find_source(case.state).translate({x: None}).weights)) for x in theirs}


@pytest.fixture(scope="module")
def training(case):
    """One training step of the recorded batch: targets, dice terms, losses and gradients."""
    model, arrays = case.model, case.arrays
    inputs = []
    for i, spec in enumerate(case.json["training"]["images"]):
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
        dice = dice_terms(predictions, targets).detach()
        gradients = parity.gradients(model, losses, list(_recorded_gradients(case).values()))
    finally:
        model.eval().float()
    return SimpleNamespace(targets=targets, losses=losses, dice=dice, gradients=gradients)


@pytest.mark.slow
def test_targets_and_dice_terms(case, training):
    """Recorded terms are in the order of image and cell, as ours are."""
    targets, values = training.targets, {}
    values["num_positive"] = np.array(targets.num_positive)
    start = 0
    for level, counts in enumerate(targets.counts):
        of_level = slice(start, start + sum(counts))
        images = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        masks = targets.masks[level][targets.mask_rows[of_level]]
        classes = targets.classes[level]
        values |= {
            f"target_category_{level}": classes,
            f"target_positive_{level}": classes.flatten(1) != 80,
            f"target_order_{level}": torch.stack((images, targets.cells[of_level]), dim=1),
            f"target_class_{level}": classes.flatten(1)[images, targets.cells[of_level]],
            f"target_mask_{level}": masks.to(torch.uint8),
            f"target_mask_area_{level}": masks.flatten(1).sum(1),
            f"dice_{level}": training.dice[of_level],
        }
        start = of_level.stop
    assert values.keys() == {k for k in case.json["tolerance"] if k.startswith(("target", "dice", "num"))}
    assert _mismatches(case, values) == {}


@pytest.mark.slow
def test_losses(case, training):
    # The case's own tolerances are 10^-3 of the losses, written as multiples of 10^-6.
    assert _mismatches(case, training.losses) == {}
    for name, value in training.losses.items():
        assert value.item() == pytest.approx(case.arrays[name].item(), rel=1e-5)


@pytest.mark.slow
def test_gradients(case, training):
    names = _recorded_gradients(case)
    assert len(names) >= 10
    values = {theirs: training.gradients[ours] for theirs, ours in names.items()}
    shapes = case.json["parameters"]
    assert _mismatches(case, {f"grad {k}": v.reshape(shapes[k]) for k, v in values.items()}) == {}
