"""Which anchors fit the objects of a dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from detectron2.config import CfgNode

from ..suggestions import InputObjects, Suggestion, best_option
from .anchors import level_shapes

STEPS = (1.4, 1.15)  # factors by which sizes and ratios are changed on trial

Lists = list[list[float]]


class Anchors(NamedTuple):
    """``MODEL.ANCHOR_GENERATOR``."""

    sizes: Lists
    ratios: Lists


def suggest(cfg: CfgNode, objects: InputObjects) -> list[Suggestion]:
    """Return suggestions of anchors' sizes and aspect ratios, as many as the config has.

    Args:
        cfg: Config of the model.
        objects: At least one.
    """
    options, node = cfg.MODEL.YOLACT, cfg.MODEL.ANCHOR_GENERATOR
    levels = len(options.IN_FEATURES)
    now = Anchors([list(x) for x in node.SIZES], [list(x) for x in node.ASPECT_RATIOS])

    def lost(x: Anchors) -> float:
        shapes = level_shapes(x.sizes, x.ratios, levels, square=options.SQUARE_ANCHORS)
        return without_anchor(objects, shapes.view(-1, 2), options.POSITIVE_IOU)

    measure = f"of the objects have no anchor of IoU {options.POSITIVE_IOU}"
    best, before, after = best_option(now, [improve(now, lost)], lost)
    pairs = (("SIZES", now.sizes, best.sizes), ("ASPECT_RATIOS", now.ratios, best.ratios))
    changed = [x for x in pairs if x[1] != x[2]] or [pairs[0]]
    shapes = level_shapes(now.sizes, now.ratios, levels, square=options.SQUARE_ANCHORS)
    best_level = shape_ious(objects, shapes.view(-1, 2)).argmax(1) // shapes.shape[1]
    shares = tuple((best_level.bincount(minlength=levels) / len(best_level)).tolist())
    return [
        Suggestion(f"MODEL.ANCHOR_GENERATOR.{key}", a, b, "uncovered", measure, before, after, shares)
        for key, a, b in changed
    ]


def improve(anchors: Anchors, lost: Callable[[Anchors], float]) -> Anchors:
    """Return anchors that lose fewer objects, found by changing one list of sizes or one ratio at a time."""
    best, least = anchors, lost(anchors)
    for step in STEPS:
        improved = True
        while improved:
            improved = False
            for candidate in _neighbors(best, step):
                share = lost(candidate)
                if share < least:
                    best, least, improved = candidate, share, True
    return best


def _neighbors(anchors: Anchors, step: float) -> Iterator[Anchors]:
    """Yield anchors with the sizes of one level, or one ratio of a list, multiplied or divided by ``step``."""
    for factor in (step, 1 / step):
        for i, row in enumerate(anchors.sizes):
            yield anchors._replace(sizes=_put(anchors.sizes, i, [max(1, round(factor * x)) for x in row]))
        for i, row in enumerate(anchors.ratios):
            for k, ratio in enumerate(row):
                changed = [round(factor * ratio, 2) if k == n else x for n, x in enumerate(row)]
                yield anchors._replace(ratios=_put(anchors.ratios, i, changed))


def _put(lists: Lists, index: int, row: list[float]) -> Lists:
    return [*lists[:index], row, *lists[index + 1 :]]


def without_anchor(objects: InputObjects, shapes: torch.Tensor, min_iou: float) -> float:
    """Return the share of objects that overlap no anchor enough, were it at their center.

    Args:
        objects: At least one.
        shapes: (A, 2) widths and heights in input pixels.
        min_iou: Smallest overlap that is enough.
    """
    return (shape_ious(objects, shapes).amax(1) < min_iou).double().mean().item()


def shape_ious(objects: InputObjects, shapes: torch.Tensor) -> torch.Tensor:
    """Return the IoU of each object with anchors of each shape at its center, (M, A)."""
    sides = objects.boxes[:, None, 2:] - objects.boxes[:, None, :2]
    shared = torch.minimum(sides, shapes).prod(2)
    return shared / (sides.prod(2) + shapes.prod(1) - shared)
