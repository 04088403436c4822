"""A weight file of any source, read once: what loading, inspecting and converting it start from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..modeling.systems import System, find_system
from ..utils.errors import WeightsError
from .backbones import Backbone, find_backbone
from .files import read_weights
from .sources import SOURCES, PixelFormat, Source, Translation, find_source, own
from .sources.source import BACKBONE


@dataclass(frozen=True)
class WeightFile:
    """The content of a weight file under the names of this package; None where the file does not say.

    Attributes:
        path: Path or URL, as given.
        source: Layout of the file; None if no source knows it.
        num_entries: Number of weights in the file.
        weights: Tensors and arrays by their names in a model; those of a bare backbone have no prefix.
        dropped: Entries of the file that are left out, with the reason.
        metadata: What the file holds besides the weights.
        config: Config of the model, as YAML.
        pixel_format: Images that the weights were trained on.
        format_is_certain: False if weights of this layout may have been trained on other images.
    """

    path: str
    source: Source | None
    num_entries: int
    weights: dict[str, Any]
    dropped: dict[str, str]
    metadata: dict[str, Any]
    config: str | None
    pixel_format: PixelFormat | None
    format_is_certain: bool

    @property
    def source_name(self) -> str:
        """The name of the source; "" if no source knows the file."""
        return self.source.name if self.source else ""

    @property
    def is_backbone(self) -> bool:
        """Whether the file holds a bare backbone."""
        return self.source is not None and not self.source.system

    @property
    def system(self) -> System | None:
        """The meta-architecture that the file fills; None for a bare backbone and where no source knows the file."""
        return find_system(self.source.system) if self.source else None

    @cached_property
    def num_classes(self) -> int | None:
        """The number of classes, counted in the weights."""
        return self.system.count_classes(self.weights) if self.system else None

    @cached_property
    def thing_classes(self) -> list[str] | None:
        """The names of the classes, as this package, mmdetection 1 and 2, and mmdetection 3 store them."""
        meta = _as_dict(self.metadata.get("meta"))
        dataset = _as_dict(meta.get("dataset_meta"))
        names = self.metadata.get("thing_classes") or meta.get("CLASSES")
        names = names or dataset.get("classes") or dataset.get("CLASSES")
        return [str(name) for name in names] if isinstance(names, list | tuple) else None

    @cached_property
    def backbone(self) -> Backbone:
        """The backbone, identified by names and shapes."""
        if self.is_backbone:
            return find_backbone(self.weights)
        inside = {key: value for key, value in self.weights.items() if key.startswith(BACKBONE)}
        return find_backbone({key.removeprefix(BACKBONE): value for key, value in inside.items()})


def read_weight_file(
    path: str, *, known_only: bool = True, mapped: bool = False, of_model: Sequence[Source] = ()
) -> WeightFile:
    """Read a weight file, find its source and translate its names.

    Args:
        path: Path of the file, or a URL that can be fetched.
        known_only: Refuse a file that no source knows. Otherwise its weights keep their names.
        mapped: Map the file into memory, as :func:`~.files.read_weights` does.
        of_model: Sources that only the model at hand has.

    Raises:
        WeightsError: The file is missing or cannot be read, no source knows it, or its source does not know an entry.
    """
    values, metadata = read_weights(path, mapped=mapped)
    recorded = own.recorded_format(metadata)
    source = find_source(values, own_file=recorded is not None or "thing_classes" in metadata, of_model=of_model)
    if source is None and known_only:
        known = "; ".join(source.name for source in SOURCES)
        raise WeightsError(f"{path} (with '{next(iter(values))}') is of no known source: give one of {known}")
    weights, dropped = Translation(values, {})
    if source is not None:
        try:
            weights, dropped = source.translate(values)
        except WeightsError as error:
            raise WeightsError(f"{path}: {error}") from error
    for key, value in weights.items():
        if not hasattr(value, "shape"):
            raise WeightsError(f"{path}: the entry '{key}' is not a tensor but a {type(value).__name__}: remove it")
    return WeightFile(
        path,
        source,
        len(values),
        weights,
        dropped,
        metadata,
        config=metadata["config"] if recorded else None,
        pixel_format=recorded or (source.pixel_format(values) if source else None),
        format_is_certain=recorded is not None or (source is not None and source.always_this_format),
    )


def _as_dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
