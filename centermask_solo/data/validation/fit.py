"""How well a model is configured for the objects of a dataset, and which options would fit them better."""

from __future__ import annotations

import numpy as np
import torch
from detectron2.config import CfgNode

from ...modeling.suggestions import InputObjects, Suggestion, first_enough, shown
from ...modeling.systems import find_system
from ...utils.rules import value_of
from . import image_rules
from .closer import Objects
from .findings import TOLERATED_SHARE, Findings

MAX_OBJECTS = 50_000  # that are looked at, of evenly spaced images; shares hardly change with more
MIN_SIDE = 4  # input pixels of an object that anything can be learned from
SMALL, MAX_SMALL = 16, 0.1  # square root of a small object's area in input pixels; their share that is no reason to act
FACTORS = (1.25, 1.5, 2.0)  # by which a larger input is tried
_RULES = {"uncovered": image_rules.OBJECTS_UNCOVERED, "collide": image_rules.OBJECTS_COLLIDE}


def suggest_options(cfg: CfgNode, objects: Objects, findings: Findings | None = None) -> list[Suggestion]:
    """Return options that fit the objects of a dataset, each with the share of objects that it loses.

    Args:
        cfg: Config of the model.
        objects: Objects of the dataset.
        findings: What is added to if the present options lose more than one in a hundred.
    """
    chosen = _sample(objects)
    if not len(chosen.boxes):
        return []
    found = [_suggest_input(cfg, chosen)]
    system = find_system(cfg.MODEL.META_ARCHITECTURE)
    at_input = input_objects(cfg, chosen)
    if system is not None and system.suggest is not None:
        found += system.suggest(cfg, at_input)
    if findings is not None:
        _report(found, at_input, len(objects.boxes), findings)
    return found


def input_objects(cfg: CfgNode, objects: Objects, factor: float = 1.0) -> InputObjects:
    """Return objects at the input of a model in evaluation.

    Args:
        cfg: Config of the model.
        objects: Objects in the frame of their images.
        factor: By which the input is larger than the config's.
    """
    sizes = objects.image_sizes
    system = find_system(cfg.MODEL.META_ARCHITECTURE)
    if system is not None and system.input_size_key:
        new = np.full_like(sizes, round(factor * value_of(cfg, system.input_size_key)))
    elif cfg.INPUT.MIN_SIZE_TEST:
        scale = factor * cfg.INPUT.MIN_SIZE_TEST / sizes.min(axis=1, keepdims=True)
        scale = np.minimum(scale, factor * cfg.INPUT.MAX_SIZE_TEST / sizes.max(axis=1, keepdims=True))
        new = np.maximum(np.rint(sizes * scale), 1)
    else:
        new = factor * sizes
    boxes = torch.from_numpy(objects.boxes * np.tile(new / sizes, 2))
    return InputObjects(boxes, torch.from_numpy(objects.images), torch.from_numpy(new))


def _sample(objects: Objects) -> Objects:
    """Return the objects of as many evenly spaced images as are looked at, image by image."""
    order = np.argsort(objects.images, kind="stable")
    images = objects.images[order]
    step = -(-len(images) // MAX_OBJECTS) or 1
    order = order[images % step == 0]
    return Objects(objects.boxes[order], objects.image_sizes[order], objects.images[order])


def _suggest_input(cfg: CfgNode, objects: Objects) -> Suggestion:
    """Return the smallest input at which few objects are small, of those that are tried."""

    def small(factor: float) -> float:
        return (input_objects(cfg, objects, factor).sizes < SMALL).double().mean().item()

    system = find_system(cfg.MODEL.META_ARCHITECTURE)
    keys = ["INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST"]
    if system is not None and system.input_size_key:
        keys = [system.input_size_key]
    # Images that are not resized have no input size to enlarge
    factors = FACTORS if all(value_of(cfg, key) for key in keys) else ()
    factor, now, then = first_enough(1.0, factors, small, MAX_SMALL)
    current = [value_of(cfg, key) for key in keys]
    before, after = (x[0] if len(x) == 1 else x for x in (current, [round(factor * x) for x in current]))
    measure = f"of the objects are smaller than {SMALL} x {SMALL} pixels at the input"
    return Suggestion(", ".join(keys), before, after, "shrink", measure, now, then)


def _report(found: list[Suggestion], objects: InputObjects, number: int, findings: Findings) -> None:
    sides = (objects.boxes[:, 2:] - objects.boxes[:, :2]).amin(1)
    tiny = (sides < MIN_SIDE).double().mean().item()
    lost = [(image_rules.OBJECTS_SHRINK, tiny, f"{tiny:.1%} of the objects")]
    lost += [
        (_RULES[x.kind], x.lost, f"{x.lost:.1%} {x.measure} with {x.key} {shown(x.current)}")
        for x in found
        if x.kind in _RULES
    ]
    for rule, share, example in lost:
        if share > TOLERATED_SHARE and rule not in findings:
            findings.add(rule, example, round(share * number))
