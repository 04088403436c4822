"""What a weight file holds, in the words of this package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..modeling.systems import find_system
from .backbones import Backbone, find_backbone
from .checkpointer import IGNORED_SUFFIXES
from .files import read_weights
from .fit import Fit, judge
from .sources import SOURCES, PixelFormat, Source, find_source, own
from .sources.source import BACKBONE


@dataclass(frozen=True)
class Contents:
    """What a weight file holds; None is what it does not tell."""

    path: str
    source: Source
    num_entries: int  # of the file
    weights: dict[str, Any]  # under the names of this package; those of a bare backbone without a prefix
    dropped: dict[str, str]  # key of the file -> why it is left out
    backbone: Backbone
    num_classes: int | None
    thing_classes: list[str] | None
    config: str | None  # YAML
    pixel_format: PixelFormat | None
    format_is_certain: bool  # False: so it is if nobody trained with other images

    @property
    def system(self) -> str:
        """The meta-architecture that the file fills; "" for a bare backbone."""
        return self.source.system

    def fit(self, state: Mapping[str, Any]) -> Fit:
        """What of the file, and of a model's ``state`` dict, has no counterpart in the other."""
        named = self.weights
        if not self.system:
            named = {BACKBONE + key if BACKBONE + key in state else key: value for key, value in named.items()}
        keys = [key for key in state if not key.endswith(IGNORED_SUFFIXES)]
        wrong_shapes = [
            (key, tuple(named[key].shape), tuple(state[key].shape))
            for key in keys
            if key in named and named[key].shape != state[key].shape
        ]
        missing = [key for key in keys if key not in named]
        left_over = [key for key in named if key not in state and not key.endswith(IGNORED_SUFFIXES)]
        return judge(keys, missing, left_over, wrong_shapes, bare_backbone=not self.system)


def read_contents(path: str) -> Contents:
    """The contents of a weight file of any source.

    Args:
        path: of the file, or a URL that can be fetched.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, is of no known source, or has entries that its source does not know.
    """
    values, metadata = read_weights(path)
    source = find_source(values, metadata)
    if source is None:
        known = "; ".join(source.name for source in SOURCES)
        raise ValueError(f"{path} (with '{next(iter(values))}') is none of the files that are known: {known}")
    try:
        weights, dropped = source.translate(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    recorded = own.recorded_format(metadata)
    inside = {key.removeprefix(BACKBONE): value for key, value in weights.items() if key.startswith(BACKBONE)}
    system = find_system(source.system)
    return Contents(
        path,
        source,
        len(values),
        weights,
        dropped,
        find_backbone(inside if source.system else weights),
        system.count_classes(weights) if system else None,
        _class_names(metadata),
        own.recorded_config(metadata),
        recorded or source.pixel_format(values),
        recorded is not None or source.always_this_format,
    )


def _class_names(metadata: Mapping[str, Any]) -> list[str] | None:
    """Where this package, mmdetection 1 and 2, and mmdetection 3 have them."""
    meta = metadata.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    dataset = meta.get("dataset_meta")
    dataset = dataset if isinstance(dataset, dict) else {}
    names = metadata.get("thing_classes") or meta.get("CLASSES") or dataset.get("classes") or dataset.get("CLASSES")
    return [str(name) for name in names] if isinstance(names, list | tuple) else None
