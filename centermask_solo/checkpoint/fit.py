"""How the weights of a file fit a model, from names and shapes: the one rule for loading, inspecting and converting."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from logging import Logger
from typing import Any, NamedTuple

from ..modeling.systems import is_class_layer, optional_heads
from ..utils.text import name_some
from .backbones import OFFSETS, stage_of
from .first_convolution import inflate_colors, is_first_convolution
from .sources.source import BACKBONE
from .weight_file import WeightFile

# Batch counters, and what the config states: a file or a model may have them alone.
IGNORED_SUFFIXES = ("num_batches_tracked", "pixel_mean", "pixel_std")
# An ImageNet file also has a classifier, of one or two layers with at most a weight and a bias each.
MAX_CLASSIFIER_KEYS = 4
MAX_NAMED = 2  # parameters in a message

Shape = tuple[int, ...]


class Fit(NamedTuple):
    """What a model takes of a file, and what of either has no counterpart in the other.

    Attributes:
        weights: Entries of the file that fill a parameter, by its name in the model.
        missing: Parameters of the model that stay unfilled.
        left_over: Entries of the file that the model has no parameter for.
        wrong_shapes: Name, shape in the file and shape in the model where the shapes differ.
        class_layers: Parameters whose shapes differ in the number of classes only.
        new_parts: Heads that only the model has.
        unbuilt_parts: Heads, or stages of a backbone, that only the file has.
        faults: Everything else that does not fit, in words.
        inflated: First convolutions whose weights for three colors were made to fit images of other channels.
    """

    weights: dict[str, Any]
    missing: list[str]
    left_over: list[str]
    wrong_shapes: list[tuple[str, Shape, Shape]]
    class_layers: list[str]
    new_parts: list[str]
    unbuilt_parts: list[str]
    faults: list[str]
    inflated: Sequence[str] = ()


def fit_weights(file: WeightFile, state: Mapping[str, Any], *, inflate: bool = False) -> Fit:
    """Return how the weights of a file fit a model.

    Args:
        file: Weights of a detector, of a bare backbone, which is found wherever it is in the model, or of no known
            source, which may leave the model's layers unfilled unless it is clearly another model.
        state: State dict of the model, which may be on the meta device.
        inflate: Whether weights for three colors may fill a model for images of another number of channels.
    """
    # Match names and shapes.
    prefix = _find_prefix(file.weights, state) if file.is_backbone else ""
    named = {prefix + key: value for key, value in file.weights.items()}
    pairs = [(key, tuple(named[key].shape), tuple(state[key].shape)) for key in state if key in named]
    wrong_shapes = [pair for pair in pairs if pair[1] != pair[2]]
    weights = {key: named[key] for key, there, here in pairs if there == here}
    inflated = [pair[0] for pair in wrong_shapes if inflate and is_first_convolution(*pair[1:])]
    reverse = file.pixel_format is not None and file.pixel_format.channels == "BGR"
    weights |= {key: inflate_colors(named[key], state[key].shape[1], reverse=reverse) for key in inflated}
    wrong_shapes = [pair for pair in wrong_shapes if pair[0] not in inflated]
    keys = parameters_of(state)
    missing = [key for key in keys if key not in weights]
    left_over = [key for key in file.weights if prefix + key not in state and not key.endswith(IGNORED_SUFFIXES)]

    # Sort out what may differ.
    class_layers = [key for key, there, here in wrong_shapes if is_class_layer(key) and there[1:] == here[1:]]
    new_parts: list[str] = []
    unbuilt: dict[str, str] = {}
    if file.source is None:
        faults = _signs_of_another_model(file, keys, missing, left_over)
    else:
        others = [pair for pair in wrong_shapes if pair[0] not in class_layers]
        more = f", and {len(others) - 1} other shapes differ" if len(others) > 1 else ""
        faults = [f"'{key}' is {there} in the file but {here} in the model{more}" for key, there, here in others[:1]]
        absent = set(missing) - {key for key, _, _ in wrong_shapes}
        if file.is_backbone:
            absent, unbuilt = _sort_stages(keys, absent, left_over, prefix)
        else:
            absent, new_parts, unbuilt = _sort_heads(keys, absent, left_over)
        if absent:
            faults.append(f"it lacks {name_some(sorted(absent), MAX_NAMED)}")
        if set(left_over) > unbuilt.keys():
            faults.append(f"there is no place for {name_some(sorted(set(left_over) - unbuilt.keys()), MAX_NAMED)}")
    unbuilt_parts = sorted(set(unbuilt.values()))
    return Fit(weights, missing, left_over, wrong_shapes, class_layers, new_parts, unbuilt_parts, faults, inflated)


def report_fit(file: WeightFile, fit: Fit, logger: Logger) -> None:
    """Log a line for each kind of thing that only the file or only the model has."""
    path = file.path
    keys_of = defaultdict(list)
    for key, reason in file.dropped.items():
        keys_of[reason].append(key)
    for reason, keys in keys_of.items():
        logger.info(f"Left out of {path}: {name_some(keys)} ({reason}).")
    if fit.class_layers:
        logger.warning(
            f"{path} was trained on another number of classes: {layers_of(fit.class_layers)} start from their "
            "initialization, everything else is loaded."
        )
    if fit.new_parts:
        logger.warning(f"{path} lacks {', '.join(fit.new_parts)}, which start from their initialization.")
    if fit.unbuilt_parts:
        parts = ", ".join(fit.unbuilt_parts)
        logger.warning(f"Left out of {path}, because the config does not build it: {parts}.")


def parameters_of(state: Mapping[str, Any]) -> list[str]:
    """Return the names in a model's state dict that a file has to fill."""
    return [key for key in state if not key.endswith(IGNORED_SUFFIXES)]


def _find_prefix(names: Collection[str], state: Mapping[str, Any]) -> str:
    """Return the prefix that most names of a bare backbone have in a model."""
    prefixes = Counter(key.removesuffix(tail) for key in state for tail in _tails(key) if tail in names)
    if prefixes:
        return prefixes.most_common(1)[0][0]
    return BACKBONE if any(key.startswith(BACKBONE) for key in state) else "backbone."


def _tails(key: str) -> Iterator[str]:
    """Yield a name, and what is left of it without its first parts."""
    while key:
        yield key
        key = key.partition(".")[2]


def _sort_heads(
    keys: Collection[str], missing: Collection[str], left_over: Collection[str]
) -> tuple[set[str], list[str], dict[str, str]]:
    """Return the missing parameters outside optional heads, the optional heads that only the model has, and the left
    over names that belong to optional heads that it lacks, with their heads.
    """
    filled = {_head(key) for key in {*keys, *left_over} - set(missing)}
    new = optional_heads() & ({_head(key) for key in missing} - filled)
    unbuilt = optional_heads() - {_head(key) for key in keys}
    return (
        {key for key in missing if _head(key) not in new},
        sorted(new),
        {key: _head(key) for key in left_over if _head(key) in unbuilt},
    )


def _sort_stages(
    keys: Collection[str], missing: Collection[str], left_over: Collection[str], prefix: str
) -> tuple[set[str], dict[str, str]]:
    """Return a backbone's missing parameters, and the left over names of stages that it lacks, with their stages."""
    inside = {key for key in keys if key.startswith(prefix) and not OFFSETS.fullmatch(key)}
    stages = {stage_of(key.removeprefix(prefix)) for key in inside}
    return inside & set(missing), {key: stage_of(key) for key in left_over if stage_of(key) not in stages}


def _signs_of_another_model(
    file: WeightFile, keys: list[str], missing: Collection[str], left_over: list[str]
) -> list[str]:
    """Return what shows that a file of no known source is neither of this kind of model nor of a backbone."""
    another, missing = "it holds the weights of another model", set(missing)
    if missing >= set(keys):
        entry = f"none of its {len(file.weights)} entries (such as '{next(iter(file.weights))}')"
        return [f"{another}: {entry} is among the {len(keys)} parameters (such as '{keys[0]}')"]
    rest = outside_backbone(keys)
    unfilled = [key for key in rest if key in missing]
    if len(unfilled) > len(rest) / 2 and len(left_over) > MAX_CLASSIFIER_KEYS:
        return [
            f"{another}: outside the backbone it lacks {len(unfilled)} of the {len(rest)} parameters (such as "
            f"'{unfilled[0]}') and has {len(left_over)} of its own (such as '{left_over[0]}')"
        ]
    return []


def outside_backbone(keys: Collection[str]) -> list[str]:
    """Return the names of the parameters that are not a backbone's."""
    return [key for key in keys if not key.startswith("backbone.")]


def layers_of(keys: Collection[str]) -> str:
    """Return the layers that parameters belong to, each once, in their order."""
    return ", ".join(dict.fromkeys(key.rpartition(".")[0] for key in keys))


def _head(key: str) -> str:
    """Return the part of a detector that a config adds or leaves out as a whole, such as "roi_heads.mask_head"."""
    return ".".join(key.split(".")[: 2 if key.startswith("roi_heads.") else 1])
