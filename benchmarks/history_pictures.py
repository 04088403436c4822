"""How each system gets from an image to its detections, as a row of pictures; for history_run.py."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from detectron2.data.catalog import Metadata
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.poolers import RoIPool
from detectron2.structures import Boxes
from torch import Tensor, nn

from benchmarks.history_panels import (
    HEIGHT,
    RED,
    Panel,
    boxes_on,
    compose,
    grid_on,
    heat,
    sampled_crop,
    tiles,
    up,
    weighted_tiles,
)
from centermask_solo.data.shapes.scenes import CLASSES
from centermask_solo.visualization.drawing import draw_predictions

SHOWN = 4  # detections


def picture(model: nn.Module, x: dict[str, Any], image: np.ndarray) -> np.ndarray:
    """Return the row of pictures of a trained model, (h, w, 3) uint8 in RGB.

    Args:
        model: In evaluation mode.
        x: An input of it.
        image: The same image, (H, W, 3) uint8, RGB.
    """
    steps = {"RCNN": rcnn, "YOLACT": yolact, "CenterMask": centermask, "SOLO": grid_system, "SOLOv2": grid_system}
    step = steps.get(type(model).__name__, two_stages)
    found = model([{**x, "height": image.shape[0], "width": image.shape[1]}])[0]["instances"].to("cpu")
    found = found[found.scores.argsort(descending=True)[:SHOWN]]
    middle = step(model, x, image, found)
    metadata = Metadata(thing_classes=list(CLASSES))
    scale = HEIGHT / image.shape[0]
    large = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    what = "masks" if found.has("pred_masks") else "boxes"
    return compose(
        [("image", image), *middle, (f"the best {len(found)} {what}", draw_predictions(large, found, metadata))]
    )


def rcnn(model: Any, x: dict[str, Any], image: np.ndarray, found: Any) -> list[Panel]:
    """Regions, some of them as the network sees them, and the margins of their SVMs."""
    boxes = model.propose(x)
    (normalized,) = model.preprocess_image([x])
    margins = model.predict_from(model.pooled_features(normalized, boxes)).margins.amax(dim=1)
    order = margins.argsort(descending=True)
    chosen = torch.cat([order[:8], order[len(order) // 2 : len(order) // 2 + 8]])
    warps = model.warp(normalized, boxes[chosen]) * model.pixel_std + model.pixel_mean
    parts = [w.clamp(0, 255).byte().permute(1, 2, 0).numpy().copy() for w in warps]
    parts = [
        cv2.copyMakeBorder(w, 3, 3, 3, 3, cv2.BORDER_CONSTANT, value=(40, 160, 60) if m > 0 else (190, 60, 60))
        for w, m in zip(parts, margins[chosen].tolist(), strict=True)
    ]
    return [
        (f"{len(boxes)} regions (60 shown)", boxes_on(image, boxes[:60])),
        ("warped, the network on each; SVM margin > 0 green", tiles(parts, 4)),
    ]


def two_stages(model: GeneralizedRCNN, x: dict[str, Any], image: np.ndarray, found: Any) -> list[Panel]:
    """Fast, Faster and Mask R-CNN: the features of the image once, proposals, and what is pooled for the best one."""
    images = model.preprocess_image([x])
    features = model.backbone(images.tensor)
    padded, shown = images.tensor.shape[-2:], image.shape[:2]
    if model.proposal_generator is None:
        proposals = x["proposals"]
        boxes, name = proposals.proposal_boxes.tensor, "regions of selective search"
        first: list[Panel] = [(f"{len(boxes)} {name} (60 shown)", boxes_on(image, boxes[:60]))]
    else:
        proposals = model.proposal_generator(images, features, None)[0][0]
        logits = model.proposal_generator.rpn_head([features[f] for f in model.proposal_generator.in_features])[0]
        best = torch.stack([up(v[0].amax(dim=0).sigmoid(), padded, shown) for v in logits]).amax(dim=0)
        boxes = proposals.proposal_boxes.tensor
        first = [
            ("RPN: best anchor of each place", heat(best, image)),
            ("its best 30 proposals", boxes_on(image, boxes[:30])),
        ]
    box = (found.pred_boxes.tensor[:1] if len(found) else boxes[:1]).clone()
    is_mask = found.has("pred_masks")
    pooler = model.roi_heads.mask_pooler if is_mask else model.roi_heads.box_pooler
    pooled = pooler([features[f] for f in model.roi_heads.in_features], [Boxes(box)])[0]
    level = pooler.level_poolers[0]
    rounded = isinstance(level, RoIPool)
    crop = sampled_crop(image, box[0], 1 / level.spatial_scale, pooled.shape[-1], rounded)
    if is_mask:
        panels = [*first, (f"one {'RoIPool: cells' if rounded else 'RoIAlign: samples'}", crop)]
    else:
        seen = heat(up(features["p2"][0].abs().mean(dim=0), padded, shown), image)
        panels = [*first, ("features of the whole image, one RoI", boxes_on(seen, box, RED, 2))]
    panels.append((f"pooled, {pooled.shape[-1]} x {pooled.shape[-1]}", heat(pooled.abs().mean(dim=0))))
    if is_mask and len(found):
        raw = model.roi_heads.mask_head.layers(pooled[None])[0, int(found.pred_classes[0])].sigmoid()
        panels.append((f"its mask, {raw.shape[-1]} x {raw.shape[-1]}", heat(raw)))
    return panels


def yolact(model: Any, x: dict[str, Any], image: np.ndarray, found: Any) -> list[Panel]:
    """Prototypes, the coefficients of the best anchor, and their sum."""
    predictions = model.predict(model.preprocess_image([x]).tensor)
    scores = predictions.class_logits[0].softmax(dim=-1)[:, 1:].amax(dim=1)
    coefficients = predictions.mask_coefficients[0, scores.argmax()]
    prototypes = predictions.prototypes[0]
    total = torch.einsum("e,ehw->hw", coefficients, prototypes).sigmoid()
    return [
        (f"9 of {len(prototypes)} prototypes, coefficients", weighted_tiles(prototypes, coefficients)),
        ("their sum, before the crop to the box", heat(up(total, image.shape[:2]), image)),
    ]


def centermask(model: Any, x: dict[str, Any], image: np.ndarray, found: Any) -> list[Panel]:
    """Centers of FCOS, boxes, and the attention and mask of the best one."""
    images = model.preprocess_image([x])
    predictions = model.predict(images.tensor)
    fcos = predictions.fcos
    maps = [
        (c[0].sigmoid().amax(dim=0) * t[0, 0].sigmoid()).sqrt()
        for c, t in zip(fcos.class_logits, fcos.centerness_logits, strict=True)
    ]
    best = torch.stack([up(v, images.tensor.shape[-2:], image.shape) for v in maps]).amax(dim=0)
    gates: list[Tensor] = []
    attention = next(m for m in model.modules() if type(m).__name__ == "SpatialAttention")
    handle = attention.register_forward_hook(
        lambda _, args, out: gates.append((out / args[0].clamp(min=1e-6)).amax(dim=1))
    )
    (detected,) = model.inference(predictions, [image.shape[:2]])
    handle.remove()
    panels = [
        ("FCOS: class score and centerness", heat(best, image)),
        ("boxes", boxes_on(image, found.pred_boxes.tensor, RED, 2)),
    ]
    if len(detected):
        row = int(detected.scores.argmax())
        panels.append(("attention in the best box", heat(torch.cat(gates)[row])))
        panels.append(("its mask", heat(detected.pred_masks[row, 0])))
    return panels


def grid_system(model: Any, x: dict[str, Any], image: np.ndarray, found: Any) -> list[Panel]:
    """SOLO and SOLOv2: cells of a grid, and what their kernels make of the mask features."""
    images = model.preprocess_image([x])
    predictions = model.predict(images.tensor)
    scores = [v[0].sigmoid().amax(dim=0) for v in predictions.class_logits]
    level = max(range(len(scores)), key=lambda i: float(scores[i].max()))
    grid = scores[level]
    cells = grid.flatten().argsort(descending=True)[:4]
    padded = np.zeros((*images.tensor.shape[-2:], 3), np.uint8)
    padded[: image.shape[0], : image.shape[1]] = image
    panels = [(f"grid of {len(grid)} x {len(grid)} cells: class scores", grid_on(padded, grid))]
    is_dynamic = not hasattr(predictions, "masks_of")
    if is_dynamic:
        kernel = predictions.kernels[level][0].flatten(1)[:, cells]
        features = predictions.mask_features[0]
        panels.append((f"9 of {len(features)} mask features, kernel of a cell", weighted_tiles(features, kernel[:, 0])))
        masks = torch.einsum("em,ehw->mhw", kernel, features).sigmoid()
    else:
        masks = predictions.masks_of(0).logits(level, cells)[0].sigmoid()
    what = "kernels times features, 4 cells" if is_dynamic else f"4 of {grid.numel()} mask channels"
    shown = [heat(up(m, padded.shape[:2]), padded) for m in masks]
    return [*panels, (what, tiles(shown, 2, 112))]
