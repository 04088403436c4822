"""Weights in this package's own layout, which hold class names and config, made of those of any source."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from detectron2.config import CfgNode
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from torch import Tensor

from ..checkpoint.contents import Contents, read_contents
from ..checkpoint.fit import name_some
from ..checkpoint.sources import PixelFormat
from ..config import load_config, merge_config
from .candidates import adapt, choose_candidate, empty_state, find_candidates, pixel_format

COCO_CLASSES = [category["name"] for category in COCO_CATEGORIES if category["isthing"]]


@dataclass(frozen=True)
class Converted:
    """What was written."""

    source: str
    num_entries: int
    config: str  # where the config came from
    thing_classes: list[str] | None
    images: PixelFormat
    left_out: list[str]  # parts of the file that the config does not build


def convert_weights(
    path: str,
    target: str,
    cfg: CfgNode,
    *,
    config_file: str = "",
    thing_classes: Sequence[str] | None = None,
    overwrite: bool = False,
) -> Converted:
    """Write the weights of a detector of any source in this package's own layout: with class names and config inside.

    Args:
        path: of the weights.
        target: the file that is written.
        cfg: the defaults; it becomes the config that is written.
        config_file: by default the config inside the file, or the one of this package that the weights belong to.
        thing_classes: by default those inside the file, or COCO's if there are 80.
        overwrite: whether ``target`` may exist.

    Raises:
        ValueError, FileNotFoundError: it cannot be done, in one sentence.
    """
    if not target.endswith(".pth"):
        raise ValueError(f"{target} would be a file of PyTorch: give it a name that ends in .pth")
    if os.path.exists(target) and not overwrite:
        raise ValueError(f"{target} exists already: give another name, or --overwrite")
    contents = read_contents(path)
    if not contents.system:
        raise ValueError(
            f"{path} ({contents.source.name}) is a backbone without a detector, in which there is nothing to convert: "
            "give it to a training as it is, as MODEL.WEIGHTS"
        )
    names = _check_names(contents, thing_classes)
    config = _merge(cfg, contents, config_file)
    state, left_out = _check_fit(contents, cfg, config)
    cfg.MODEL.WEIGHTS = ""
    weights = {key: torch.as_tensor(value) for key, value in contents.weights.items() if key in state}
    content = {"model": weights, "config": cfg.dump(), **({"thing_classes": names} if names else {})}
    os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
    torch.save(content, f"{target}.tmp")
    os.replace(f"{target}.tmp", target)
    return Converted(contents.source.name, len(weights), config, names, pixel_format(cfg), left_out)


def _check_names(contents: Contents, given: Sequence[str] | None) -> list[str] | None:
    """The names of the classes; None if nothing tells them."""
    number = contents.num_classes
    if given is None:
        return contents.thing_classes or (COCO_CLASSES if number == len(COCO_CLASSES) else None)
    if number is not None and len(given) != number:
        raise ValueError(f"{contents.path} has {number} classes, but {len(given)} names were given: give all, in order")
    return list(given)


def _merge(cfg: CfgNode, contents: Contents, config_file: str) -> str:
    """Where the config came from that ``cfg`` was merged with; classes and images are then those of the weights."""
    config: str = config_file
    if config_file:
        merge_config(cfg, config_file, [])
    elif contents.config is not None:
        config = f"the one inside {contents.path}"
        merge_config(cfg, load_config(contents.config), [])
    else:
        config = _only_config(contents)
        merge_config(cfg, config, [])
    adapt(cfg, contents, images=contents.format_is_certain or not config_file)
    return config


def _only_config(contents: Contents) -> str:
    candidates = find_candidates(contents)
    chosen = choose_candidate(contents, candidates)
    if chosen is not None:
        return chosen.name
    if not candidates:
        raise ValueError(f"no config of this package fits {contents.path}: name the right one with --config-file")
    raise ValueError(
        f"{len(candidates)} configs fit {contents.path} that predict differently: name the right one with "
        f"--config-file, of {', '.join(candidate.name for candidate in candidates)}"
    )


def _check_fit(contents: Contents, cfg: CfgNode, config: str) -> tuple[Mapping[str, Tensor], list[str]]:
    """The model's state dict without values, and what of the file has no place in it.

    Raises:
        ValueError: the weights do not fill the model.
    """
    if contents.system != cfg.MODEL.META_ARCHITECTURE:
        raise ValueError(
            f"{contents.path} is {contents.source.name}, a {contents.system}, but {config} is of a "
            f"{cfg.MODEL.META_ARCHITECTURE}: give one that fits with --config-file"
        )
    state = empty_state(cfg)
    fit = contents.fit(state)
    faults = [*fit.faults, *(f"it lacks {part}" for part in fit.new_parts)]
    if fit.class_layers:
        faults.append(f"the number of classes differs in {name_some(fit.class_layers)}")
    if faults:
        raise ValueError(
            f"{contents.path} ({contents.source.name}) does not fit {config}: {'; '.join(faults)}; "
            "give one that fits with --config-file"
        )
    return state, fit.unbuilt_parts
