"""Sources of weights: layouts that are recognized by their names, each with a table that translates them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ...utils.errors import WeightsError
from ...utils.text import counted

# What a batch norm stores, for the patterns of a table.
BATCH_NORM = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
PARAMETER = r"(weight|bias)"
BACKBONE = "backbone.bottom_up."
BARE = r"(?:backbone\.bottom_up\.)?"  # for bare backbones that some files store under a detector's prefix

# Smaller differences between statistics of pixels in 0..255 are rounding, or two habits for the same thing.
MEAN_TOLERANCE = 1.0  # gray levels
STD_TOLERANCE = 0.01  # of the std


class Translation(NamedTuple):
    """The content of a file under this package's names; every key of the file ends up in one of the two.

    Attributes:
        weights: Values by their names in this package; those of a bare backbone have no prefix.
        dropped: Keys of the file that are left out, with the reason.
    """

    weights: dict[str, Any]
    dropped: dict[str, str]


@dataclass(frozen=True)
class PixelFormat:
    """The images that weights were trained on: ``INPUT.FORMAT``, ``MODEL.PIXEL_MEAN`` and ``MODEL.PIXEL_STD``."""

    channels: str  # "RGB" or "BGR"
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def agrees_with(self, other: PixelFormat) -> bool:
        """Return whether both give a network the same images, up to differences that it does not notice."""
        return (
            self.channels == other.channels
            and len(self.mean) == len(other.mean)
            and all(abs(a - b) <= MEAN_TOLERANCE for a, b in zip(self.mean, other.mean, strict=True))
            and all(abs(a - b) <= STD_TOLERANCE * a for a, b in zip(self.std, other.std, strict=True))
        )

    def __str__(self) -> str:
        """Return the format as command-line overrides."""
        mean, std = (", ".join(f"{x:g}" for x in numbers) for numbers in (self.mean, self.std))
        return f"INPUT.FORMAT {self.channels} MODEL.PIXEL_MEAN '[{mean}]' MODEL.PIXEL_STD '[{std}]'"


# torchvision, mmdetection and most others: standardized.
RGB_STANDARDIZED = PixelFormat("RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
# Caffe, and hence Detectron2: only centered.
BGR_CENTERED = PixelFormat("BGR", (103.53, 116.28, 123.675), (1.0, 1.0, 1.0))


@dataclass(frozen=True)
class Source:
    """A layout of weight files that a code base writes, or wrote.

    Attributes:
        name: Name for people, such as "SOLOv2 of the original repository (mmdetection 1.0)".
        system: ``MODEL.META_ARCHITECTURE`` that a file fills; "" for a bare ImageNet backbone.
        recognizes: Returns whether weights have this layout, from their names, and their shapes where needed.
        translate: Translates the names; raises WeightsError that lists every unknown key.
        pixel_format: Returns the images that weights were trained on; None if the layout does not determine them.
        always_this_format: Every file of the layout has this pixel format. False if people train on other images
            without changing the names.
        file_name: Pattern of the names that the code base gives its files, whose group "config" is the name of the
            config there; None if there is no such pattern.
    """

    name: str
    system: str
    recognizes: Callable[[Mapping[str, Any]], bool]
    translate: Callable[[Mapping[str, Any]], Translation]
    pixel_format: Callable[[Mapping[str, Any]], PixelFormat | None]
    always_this_format: bool = True
    file_name: re.Pattern[str] | None = None


@dataclass(frozen=True)
class Drop:
    """Takes the place of a name in a table: entries that match the pattern are left out."""

    reason: str


Rename = str | Callable[[re.Match[str]], str] | Drop
Table = tuple[tuple[re.Pattern[str], Rename], ...]

CLASSIFIER = Drop("the ImageNet classifier, which a detector does not have")
NOT_BUILT = Drop("the classifier or a layer that the features do not need")
BATCH_COUNTER = Drop("a batch counter of a batch norm, which is frozen here")
STATED = Drop("the config states it")
PIXEL_STATISTICS = ("pixel_mean", "pixel_std")
CELL_ANCHORS = "anchor_generator.cell_anchors"  # in older files of Detectron2


def table(*rows: tuple[str, Rename]) -> Table:
    r"""Return a table of names from (pattern of a whole name there, name here), which are tried in order.

    The name is a template in which ``\1`` is the first group, a function of the match, or a :class:`Drop`.
    """
    return tuple((re.compile(pattern), name) for pattern, name in rows)


def translate_names(values: Mapping[str, Any], names: Table, what: str) -> Translation:
    """Return ``values`` under the names that a table gives them.

    Args:
        values: Weights by their names in the file.
        names: Table of names.
        what: Name of the source, for the error.

    Raises:
        WeightsError: Keys match no pattern, or another key has taken their place.
    """
    weights: dict[str, Any] = {}
    dropped: dict[str, str] = {}
    unknown = []
    for key, value in values.items():
        name = _look_up(key, names)
        if isinstance(name, Drop):
            dropped[key] = name.reason
        elif name is None or name in weights:
            unknown.append(key)
        else:
            weights[name] = value
    if unknown:
        raise WeightsError(
            f"{what} has no place for {counted(len(unknown), 'entry')} of the file: {', '.join(unknown)}"
        )
    return Translation(weights, dropped)


def renamed(names: Table, what: str) -> Callable[[Mapping[str, Any]], Translation]:
    """Return the translation of a source that differs in its names only: :func:`translate_names` with this table."""
    return lambda values: translate_names(values, names, what)


def _look_up(key: str, names: Table) -> str | Drop | None:
    for pattern, name in names:
        match = pattern.fullmatch(key)
        if match:
            return name if isinstance(name, Drop) else match.expand(name) if isinstance(name, str) else name(match)
    return None


def has_names(*names: str) -> Callable[[Mapping[str, Any]], bool]:
    """Return a predicate: whether a file has all of ``names``."""
    return lambda values: values.keys() >= set(names)


def is_backbone_with(name: str) -> Callable[[Mapping[str, Any]], bool]:
    """Return a predicate: whether a file has ``name``, perhaps with a detector's prefix, but no detector."""
    return lambda values: (
        (name in values or BACKBONE + name in values) and not any(key.startswith("backbone.fpn_") for key in values)
    )


def keep_names(values: Mapping[str, Any]) -> Translation:
    """Return the translation of a file under this package's names: all of it but what the config states."""
    stated = {key: STATED.reason for key in values if key in PIXEL_STATISTICS or CELL_ANCHORS in key}
    return Translation({key: value for key, value in values.items() if key not in stated}, stated)


def resnet_rows(theirs: str, ours: str) -> tuple[tuple[str, Rename], ...]:
    """Return the rows of a table for a ResNet or ResNeXt under torchvision's names, deformable convolutions included.

    Args:
        theirs: Pattern of the prefix there, without groups.
        ours: Prefix here.
    """

    def block(match: re.Match[str]) -> str:
        return f"{ours}res{int(match[1]) + 1}.{match[2]}"

    at = rf"{theirs}layer([1-4])\.(\d+)\."
    return (
        (rf"{theirs}conv1\.weight", f"{ours}stem.conv1.weight"),
        (rf"{theirs}bn1\.{BATCH_NORM}", rf"{ours}stem.conv1.norm.\1"),
        (rf"{at}conv([123])\.weight", lambda m: f"{block(m)}.conv{m[3]}.weight"),
        (rf"{at}bn([123])\.{BATCH_NORM}", lambda m: f"{block(m)}.conv{m[3]}.norm.{m[4]}"),
        (rf"{at}downsample\.0\.weight", lambda m: f"{block(m)}.shortcut.weight"),
        (rf"{at}downsample\.1\.{BATCH_NORM}", lambda m: f"{block(m)}.shortcut.norm.{m[3]}"),
        (rf"{at}conv2(?:\.conv)?_offset\.{PARAMETER}", lambda m: f"{block(m)}.conv2_offset.{m[3]}"),
    )
