"""Carry the weights of classes over to a model that has them in another order, or among others."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..modeling.systems import ClassRows, is_class_layer
from .weight_file import WeightFile


class Carried(NamedTuple):
    """A file whose layers with outputs for each class are those of a model.

    Attributes:
        file: The file, with those layers in the model's classes.
        kept: Classes whose weights were carried over by name.
        restarted: Layers all of whose weights are the model's own.
    """

    file: WeightFile
    kept: list[str]
    restarted: list[str]


def carry_classes(file: WeightFile, state: Mapping[str, Tensor], names: Sequence[str]) -> Carried | None:
    """Return a file with the rows of classes moved to where the model has these classes, by name.

    The rows of classes that the file lacks are the model's own. Layers whose rows the system does not describe are
    the model's own as a whole.

    Args:
        file: Weights of a detector, with class names.
        state: State dict of the model.
        names: Class names of the model.

    Returns:
        None if the file has the same classes in the same order, or does not name its classes, or if names and shapes
        contradict each other.
    """
    theirs, system = file.thing_classes, file.system
    if theirs is None or system is None or theirs == list(names):
        return None
    if (len(theirs), len(names)) != (file.num_classes, system.count_classes(state)):
        return None
    kept = [name for name in names if name in theirs]
    weights, restarted = dict(file.weights), []
    for key in file.weights:
        if key not in state or not is_class_layer(key):
            continue
        layer = key.rpartition(".")[0]
        rows = next((x for x in system.class_rows if re.fullmatch(x.layer, layer)), None)
        if rows is not None:
            weights[key] = _move(file.weights[key], state[key], rows, theirs, names)
        elif not system.class_rows:
            weights[key] = state[key].clone()
            restarted.append(layer)
    return Carried(replace(file, weights=weights), kept, list(dict.fromkeys(restarted)))


def _move(theirs: Any, ours: Tensor, rows: ClassRows, names: Sequence[str], our_names: Sequence[str]) -> Any:
    """Return a parameter of the model with the rows that the file has for its classes; ``theirs`` if it has none."""
    source = _by_class(torch.as_tensor(theirs), rows, len(names))
    target = _by_class(ours.clone(), rows, len(our_names))
    if source is None or target is None or source[:, 0].shape != target[:, 0].shape:
        return theirs
    offset = 1 if rows.background == "first" else 0
    pairs = [(i + offset, names.index(name) + offset) for i, name in enumerate(our_names) if name in names]
    if rows.background and pairs:
        pairs.append((0, 0) if rows.background == "first" else (len(our_names), len(names)))
    for here, there in pairs:
        target[:, here] = source[:, there].to(target)
    return target.reshape(ours.shape)


def _by_class(value: Tensor, rows: ClassRows, num_classes: int) -> Tensor | None:
    """Return a parameter as (anchors, classes and background, rows of each, ...); None if they do not fit."""
    num_slots = num_classes + bool(rows.background)
    if value.ndim == 0 or value.shape[0] % (num_slots * rows.each):
        return None
    return value.reshape(-1, num_slots, rows.each, *value.shape[1:])
