"""The layouts of weight files that can be read: one file per source, each a table of names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...utils.modules import import_modules
from . import own
from .source import PixelFormat, Source, Translation

__all__ = ["SOURCES", "PixelFormat", "Source", "Translation", "find_source"]


def _find_sources() -> tuple[Source, ...]:
    """Return the sources in the modules of this folder: detectors first, because their files have a backbone, too."""
    found = [x for module in import_modules(__name__).values() for x in vars(module).values() if isinstance(x, Source)]
    return tuple(sorted(found, key=lambda source: source.system == ""))


SOURCES = _find_sources()


def find_source(values: Mapping[str, Any], *, own_file: bool = False, of_model: Sequence[Source] = ()) -> Source | None:
    """Return the source of weights, identified by their names; None if no source knows them.

    Args:
        values: Weights by their names in the file.
        own_file: Whether this package wrote the file, according to its metadata.
        of_model: Sources that only the model at hand has, which come first.
    """
    sources = own.own_sources() if own_file else (*of_model, *SOURCES, *own.unsigned_sources())
    return next((source for source in sources if source.recognizes(values)), None)
