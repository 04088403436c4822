"""What a model states of the weights that it takes: sources of its own, and images."""

from __future__ import annotations

from torch import nn

from ..modeling.backbone.timm import TimmBackbone
from .sources import PixelFormat, Source
from .sources.timm import features_source


def sources_of(model: nn.Module) -> list[Source]:
    """Return the sources of weights for backbones whose code is not this package's."""
    bodies = [module for module in model.modules() if isinstance(module, TimmBackbone)]
    return [
        features_source(body.name, body.published_names, PixelFormat("RGB", body.pixel_mean, body.pixel_std))
        for body in bodies
    ]


def pixel_format_of(model: nn.Module) -> PixelFormat | None:
    """Return the pixel format that a model states; None if it states none."""
    channels, mean, std = (getattr(model, name, None) for name in ("input_format", "pixel_mean", "pixel_std"))
    if channels is None or mean is None or std is None:
        return None
    return PixelFormat(channels, tuple(mean.flatten().tolist()), tuple(std.flatten().tolist()))
