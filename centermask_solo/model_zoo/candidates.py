"""Which of this package's configs weights belong to: those whose model has the same shapes and sees the same images."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_backbone, build_model
from torch import Tensor

from ..checkpoint.contents import Contents
from ..checkpoint.sources import PixelFormat
from ..config import config_names, value_of
from ..modeling.systems import find_system
from .models import list_models
from .verbs import get_config
from .weights import PREFIX

# Of each kind of backbone: what the names of its builders have in common, and the option that names its body.
BUILDERS = {
    "ResNet": ("resnet", "MODEL.RESNETS.DEPTH"),
    "ResNeXt": ("resnet", "MODEL.RESNETS.DEPTH"),
    "VoVNetV2": ("vovnet", "MODEL.VOVNET.CONV_BODY"),
    "MobileNetV2": ("mobilenetv2", ""),
    "DarkNet": ("darknet", ""),
}
# What prediction depends on beside the options of the model, and those of these that it does not depend on.
PREDICTION_KEYS = ("INPUT.FORMAT", "INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST", "TEST.DETECTIONS_PER_IMAGE")
TRAINING_KEYS = ("MODEL.WEIGHTS", "MODEL.BACKBONE.FREEZE_AT", "MODEL.RESNETS.NORM")


@dataclass(frozen=True)
class Candidate:
    """A config whose model the weights fill."""

    name: str  # below ``configs``
    cfg: CfgNode
    options: dict[str, Any]  # what was changed in it


def find_candidates(contents: Contents) -> list[Candidate]:
    """The configs that weights fit; those that the name of the file speaks of come first.

    If a config has their number of classes and their images, those in which one would have to be changed are left out.
    For a bare backbone: the configs that can start from it.
    """
    names = [name for name in config_names() if "Base" not in name]
    found = [candidate for name in names if (candidate := _candidate(contents, name))]
    exact = [candidate for candidate in found if not candidate.options] or found
    return sorted(exact, key=lambda candidate: _likeness(candidate.name, contents.path), reverse=True)


def choose_candidate(contents: Contents, candidates: list[Candidate]) -> Candidate | None:
    """The config that weights belong to; None if several fit that predict differently, or none.

    Where the name of the file speaks of none, and several differ in their training alone, it is the first of them.
    """
    if not candidates:
        return None
    first, *others = candidates
    likeness, *next_likeness = (_likeness(candidate.name, contents.path) for candidate in candidates)
    if likeness > max(next_likeness, default=0):
        return first
    same = all(_what_predicts(other.cfg) == _what_predicts(first.cfg) for other in others)
    return first if same else None


def _candidate(contents: Contents, name: str) -> Candidate | None:
    cfg = get_config(name)
    if contents.system and contents.system != cfg.MODEL.META_ARCHITECTURE:
        return None
    word, body = BUILDERS.get(contents.backbone.kind, ("", ""))
    if word not in cfg.MODEL.BACKBONE.NAME or (body and str(value_of(cfg, body)) not in contents.backbone.body):
        return None
    options = adapt(cfg, contents)
    fit = contents.fit(empty_state(cfg) if contents.system else _empty_backbone_state(cfg))
    if fit.faults or fit.class_layers or fit.new_parts or (contents.system and fit.unbuilt_parts):
        return None
    return Candidate(name, cfg, options)


def empty_state(cfg: CfgNode) -> Mapping[str, Tensor]:
    """The state dict of a config's model, without memory and values."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        return build_model(cfg).state_dict()


def _empty_backbone_state(cfg: CfgNode) -> Mapping[str, Tensor]:
    with torch.device("meta"):
        return {f"backbone.{key}": value for key, value in build_backbone(cfg).state_dict().items()}


def adapt(cfg: CfgNode, contents: Contents, *, images: bool = True) -> dict[str, Any]:
    """What was changed in ``cfg`` to give it the number of classes and, if ``images``, the images of the weights."""
    options: dict[str, Any] = {}
    system = find_system(contents.system)
    if system is not None and contents.num_classes not in (None, value_of(cfg, system.num_classes_key)):
        options[system.num_classes_key] = contents.num_classes
    expected = contents.pixel_format
    if images and expected is not None and not expected.agrees_with(pixel_format(cfg)):
        options["INPUT.FORMAT"] = expected.channels
        options["MODEL.PIXEL_MEAN"], options["MODEL.PIXEL_STD"] = list(expected.mean), list(expected.std)
    for item in options.items():
        cfg.merge_from_list(list(item))
    return options


def pixel_format(cfg: CfgNode) -> PixelFormat:
    """The images that a config gives its model."""
    return PixelFormat(cfg.INPUT.FORMAT, tuple(cfg.MODEL.PIXEL_MEAN), tuple(cfg.MODEL.PIXEL_STD))


def _likeness(config: str, path: str) -> int:
    """How many letters the name of a file has in common with a config's, or with that of its published weights.

    It is 0 unless the file's name begins as the other, whole. YOLACT's own code tells its models apart in this way, of
    which three differ in nothing but the size of their input.
    """
    if path.startswith(PREFIX):
        return len(path) if path.removeprefix(PREFIX) == config else 0
    published = next((model.file for model in list_models() if model.config == config), "")
    names = (Path(config).stem, Path(published).stem)
    return max(len(name) for name in ("", *names) if os.path.basename(path).startswith(name))


def _what_predicts(cfg: CfgNode) -> tuple[Any, ...]:
    plain = cfg.clone()
    for key in TRAINING_KEYS:
        plain.merge_from_list([key, type(value_of(plain, key))()])
    return (plain.MODEL, *(value_of(plain, key) for key in PREDICTION_KEYS))
