"""Whether the weights of a file belong to a model, judged by names and shapes."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from ..modeling.systems import is_class_layer, optional_heads

# What a detector adds inside an ImageNet backbone.
OFFSETS = re.compile(r".+\bconv\d?_offset\.(?:weight|bias)")
BOTTOM_UP = "backbone.bottom_up."
MAX_NAMED = 10  # keys in one message


class Fit(NamedTuple):
    """What of a file and of a model has no counterpart in the other."""

    class_layers: list[str]  # parameters that are sized for another number of classes in the file
    new_parts: list[str]  # heads that the model has and the file does not
    unbuilt_parts: list[str]  # heads, or stages of a backbone, that the file has and the model does not
    faults: list[str]  # everything else, in words


def judge(
    model_keys: Sequence[str],
    missing: Collection[str],
    left_over: Collection[str],
    wrong_shapes: Sequence[tuple[str, Sequence[int], Sequence[int]]],
    *,
    bare_backbone: bool,
) -> Fit:
    """How the weights of a known source fit a model.

    Args:
        model_keys: all names of the model.
        missing: those that the file does not fill.
        left_over: names of the file that the model does not have.
        wrong_shapes: name, shape in the file and shape in the model where these differ.
        bare_backbone: the file has an ImageNet backbone alone; its names have no prefix where they are left over.
    """
    misshapen = {key for key, _, _ in wrong_shapes}
    missing = {key for key in missing if key not in misshapen}
    class_layers = [
        key for key, there, here in wrong_shapes if is_class_layer(key) and tuple(there[1:]) == tuple(here[1:])
    ]
    faults = [
        f"'{key}' is {tuple(there)} there and {tuple(here)} here"
        for key, there, here in wrong_shapes
        if key not in class_layers
    ]
    missing, new_parts, unbuilt = (_sort_stages if bare_backbone else _sort_heads)(model_keys, missing, left_over)
    if missing:
        faults.append(f"it lacks {name_some(sorted(missing))}")
    if set(left_over) - unbuilt.keys():
        faults.append(f"there is no place for {name_some(sorted(set(left_over) - unbuilt.keys()))}")
    return Fit(class_layers, sorted(new_parts), sorted(set(unbuilt.values())), faults)


def _sort_heads(
    model_keys: Sequence[str], missing: set[str], left_over: Collection[str]
) -> tuple[set[str], frozenset[str], dict[str, str]]:
    """Of a detector: what must not be missing, heads that may, and left over names of heads that may be left out."""
    filled = {_head(key) for key in {*model_keys, *left_over} - missing}
    new = optional_heads() & ({_head(key) for key in missing} - filled)
    absent = optional_heads() - {_head(key) for key in model_keys}
    unbuilt = {key: _head(key) for key in left_over if _head(key) in absent}
    return {key for key in missing if _head(key) not in new}, new, unbuilt


def _sort_stages(
    model_keys: Sequence[str], missing: set[str], left_over: Collection[str]
) -> tuple[set[str], frozenset[str], dict[str, str]]:
    """The same of an ImageNet backbone: it need not fill more than the backbone, and may have more stages."""
    prefix = BOTTOM_UP if any(key.startswith(BOTTOM_UP) for key in model_keys) else "backbone."
    keys = {key for key in model_keys if key.startswith(prefix) and not OFFSETS.fullmatch(key)}
    stages = {_stage(key.removeprefix(prefix)) for key in keys}
    return missing & keys, frozenset(), {key: _stage(key) for key in left_over if _stage(key) not in stages}


def _head(key: str) -> str:
    """The part of a detector that a config adds or leaves out as a whole, such as "roi_heads.mask_head"."""
    return ".".join(key.split(".")[: 2 if key.startswith("roi_heads.") else 1])


def _stage(key: str) -> str:
    """The same of a backbone: everything up to the first number, such as "res5" or "features.17"."""
    match = re.match(r".*?\d[^.]*", key)
    return match[0] if match else key.split(".")[0]


def name_some(keys: Sequence[str]) -> str:
    """The first keys, and how many more there are."""
    named = ", ".join(keys[:MAX_NAMED])
    return named if len(keys) <= MAX_NAMED else f"{named} and {len(keys) - MAX_NAMED} more"


def layers_of(keys: Sequence[str]) -> str:
    """The layers that parameters belong to, each once, in their order."""
    return ", ".join(dict.fromkeys(key.rpartition(".")[0] for key in keys))
