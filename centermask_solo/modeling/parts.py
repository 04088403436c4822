"""The device and the parts that a config names, checked before anything is built from them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from detectron2.config import CfgNode
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY, ROI_HEADS_REGISTRY, build_model
from torch import nn

from ..utils.errors import ConfigError
from ..utils.rules import value_of
from ..utils.text import counted, first_line

REGISTRIES = {
    "MODEL.META_ARCHITECTURE": META_ARCH_REGISTRY,
    "MODEL.BACKBONE.NAME": BACKBONE_REGISTRY,
    "MODEL.ROI_HEADS.NAME": ROI_HEADS_REGISTRY,
}


def check_parts(cfg: CfgNode) -> None:
    """Raise ConfigError unless the main parts that a config names exist."""
    for key, registry in REGISTRIES.items():
        if value_of(cfg, key) not in registry:
            known = sorted(name for name, _ in registry)
            raise ConfigError(f"{key} '{value_of(cfg, key)}' is not one of {', '.join(known)}")
    check_channels(cfg)


def check_channels(cfg: CfgNode) -> None:
    """Raise ConfigError unless there are a mean and a deviation for each channel of the images."""
    channels = cfg.INPUT.get("CHANNELS")
    lengths = len(cfg.MODEL.PIXEL_MEAN), len(cfg.MODEL.PIXEL_STD)
    if channels is None or lengths == (channels, channels):
        return
    mean, std = (sum(x) / len(x) for x in (cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD))
    fix = [f"{key} '[{', '.join([f'{x:g}'] * channels)}]'" for key, x in (("MEAN", mean), ("STD", std))]
    raise ConfigError(
        f"INPUT.CHANNELS is {channels}, but MODEL.PIXEL_MEAN has {counted(lengths[0], 'value')} and "
        f"MODEL.PIXEL_STD {lengths[1]}: "
        f"set MODEL.PIXEL_{fix[0]} MODEL.PIXEL_{fix[1]}, or what your images have, from 0 to 255"
    )


@contextmanager
def unknown_parts_explained() -> Iterator[None]:
    """Turn what Detectron2 raises inside on a part that no registry knows into a ConfigError."""
    try:
        yield
    except KeyError as error:
        found = re.match(r"No object named '(.*)' found in '(.*)' registry", str(error.args[0] if error.args else ""))
        if not found:
            raise
        raise ConfigError(
            f"the config names '{found[1]}', which is not in the registry {found[2]}: correct the name"
        ) from error


def build_checked(cfg: CfgNode) -> nn.Module:
    """Return the model of a config; see :func:`check_parts` for what is refused."""
    check_parts(cfg)
    with unknown_parts_explained():
        return build_model(cfg)


def needs_proposals(cfg: CfgNode) -> bool:
    """Return whether a model cannot predict without precomputed proposals, as it has no ``propose`` of its own."""
    return cfg.MODEL.LOAD_PROPOSALS and not hasattr(META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE), "propose")


def build_empty(cfg: CfgNode) -> nn.Module:
    """Return the model of a config on the device "meta": with names and shapes, but without numbers and memory."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        return build_checked(cfg)


def check_device(name: str) -> None:
    """Raise ConfigError unless ``name`` is a device that PyTorch can use here."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"MODEL.DEVICE '{name}' is not a device of PyTorch: give 'cuda' or 'cpu'") from error
    if device.type == "meta":
        raise ConfigError("MODEL.DEVICE is 'meta', which computes nothing: give 'cuda' or 'cpu'")
    if device.type not in ("cpu", "cuda"):  # of other makers
        try:
            torch.empty(0, device=device)
        except Exception as error:  # whatever PyTorch raises without the part for them
            raise ConfigError(
                f"MODEL.DEVICE '{name}' cannot be used here ({first_line(error)}): give 'cuda' or 'cpu'"
            ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"MODEL.DEVICE is '{name}', but no GPU is usable: leave it out, or give 'cpu'")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"MODEL.DEVICE is '{name}', but the last GPU is 'cuda:{torch.cuda.device_count() - 1}'")
