"""Files of this package, which hold class names and config besides the weights, and others under its names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...modeling.systems import list_systems
from ...utils.yaml import DAMAGED, load_yaml
from .source import PixelFormat, Source, keep_names


def own_sources() -> tuple[Source, ...]:
    """Return the sources of files that this package wrote, one per registered system."""
    return tuple(
        Source(f"{system.name} of this package", system.name, system.matches, keep_names, lambda values: None)
        for system in list_systems()
    )


def unsigned_sources() -> tuple[Source, ...]:
    """Return the sources of files in Detectron2's names, and of files of this package reduced to their weights."""
    return tuple(replace(source, name=f"{source.system} in Detectron2's names") for source in own_sources())


def recorded_format(metadata: Mapping[str, Any]) -> PixelFormat | None:
    """Return the pixel format in the config that a file of this package holds; None if it holds none."""
    try:
        config = load_yaml(metadata["config"])
        model = config["MODEL"]
        return PixelFormat(config["INPUT"]["FORMAT"], tuple(model["PIXEL_MEAN"]), tuple(model["PIXEL_STD"]))
    except DAMAGED:  # another project's use of the word
        return None
