"""Files of this package, which state class names and config beside the weights, and others under its names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import yaml

from ...modeling.systems import list_systems
from .source import PixelFormat, Source, keep_names


def own_sources() -> tuple[Source, ...]:
    """The files of this package, one source a system."""
    return tuple(
        Source(f"{system.name} of this package", system.name, system.matches, keep_names, lambda values: None)
        for system in list_systems()
    )


def unsigned_sources() -> tuple[Source, ...]:
    """Files in Detectron2's names, and those of this package of which somebody kept the weights alone."""
    return tuple(replace(source, name=f"{source.system} in Detectron2's names") for source in own_sources())


def is_own(metadata: Mapping[str, Any]) -> bool:
    """Whether a file with this beside its weights is one that this package wrote."""
    return "thing_classes" in metadata or recorded_format(metadata) is not None


def recorded_format(metadata: Mapping[str, Any]) -> PixelFormat | None:
    """The pixel format of the config that a file of this package has inside; None if it has none."""
    try:
        config = yaml.safe_load(metadata["config"])
        model = config["MODEL"]
        return PixelFormat(config["INPUT"]["FORMAT"], tuple(model["PIXEL_MEAN"]), tuple(model["PIXEL_STD"]))
    except (KeyError, TypeError, AttributeError, yaml.YAMLError):  # another project's, which uses the word otherwise
        return None


def recorded_config(metadata: Mapping[str, Any]) -> str | None:
    """The config, as YAML, that a file of this package has inside; None if it has none."""
    return metadata["config"] if recorded_format(metadata) else None
