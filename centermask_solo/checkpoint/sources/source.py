"""What a source of weights is: a layout that is known by its names, and its table of names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

# What a batch normalization stores; for use in the patterns of a table.
BATCH_NORM = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
PARAMETER = r"(weight|bias)"
BACKBONE = "backbone.bottom_up."
BARE = r"(?:backbone\.bottom_up\.)?"  # for patterns of a bare backbone that some store with its place in a detector

# Bytes in 0..255 less the mean, divided by the std; a difference below these is rounding, or two habits for one thing.
MEAN_TOLERANCE = 1.0  # grey levels
STD_TOLERANCE = 0.01  # of the std


class Translation(NamedTuple):
    """The content of a file in this package's words; every key of the file is in one of the two."""

    weights: dict[str, Any]  # values by their names here; those of a bare backbone without a prefix
    dropped: dict[str, str]  # key of the file -> why it is left out


@dataclass(frozen=True)
class PixelFormat:
    """The images that weights were trained on: ``INPUT.FORMAT``, ``MODEL.PIXEL_MEAN`` and ``MODEL.PIXEL_STD``."""

    channels: str  # "RGB" or "BGR"
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def agrees_with(self, other: PixelFormat) -> bool:
        """Whether both give a network the same images, to within what no network notices."""
        return (
            self.channels == other.channels
            and len(self.mean) == len(other.mean)
            and all(abs(a - b) <= MEAN_TOLERANCE for a, b in zip(self.mean, other.mean, strict=True))
            and all(abs(a - b) <= STD_TOLERANCE * a for a, b in zip(self.std, other.std, strict=True))
        )

    def __str__(self) -> str:
        """As overrides of a command line."""
        mean, std = (", ".join(f"{x:g}" for x in numbers) for numbers in (self.mean, self.std))
        return f"INPUT.FORMAT {self.channels} MODEL.PIXEL_MEAN '[{mean}]' MODEL.PIXEL_STD '[{std}]'"


# torchvision's, mmdetection's and most others': images in 0..1, standardized.
RGB_STANDARDIZED = PixelFormat("RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
# Caffe's, and so Detectron2's: only centred.
BGR_CENTRED = PixelFormat("BGR", (103.53, 116.28, 123.675), (1.0, 1.0, 1.0))


@dataclass(frozen=True)
class Source:
    """A layout of weight files: one that a code base writes, or wrote."""

    name: str  # as a person would call it: "SOLOv2 of the original repository (mmdetection 1.0)"
    system: str  # the META_ARCHITECTURE that the file fills, or "" for a bare ImageNet backbone
    recognises: Callable[[Mapping[str, Any]], bool]  # by names, and shapes where needed, alone
    translate: Callable[[Mapping[str, Any]], Translation]  # raises ValueError that lists every unknown key
    pixel_format: Callable[[Mapping[str, Any]], PixelFormat | None]  # None where the layout does not tell
    # Whether every file of the layout has the pixel format; False if people train with others and do not rename.
    always_this_format: bool = True


@dataclass(frozen=True)
class Drop:
    """In a table instead of a name: what fits the pattern is left out."""

    reason: str


Rename = str | Callable[[re.Match[str]], str] | Drop
Table = tuple[tuple[re.Pattern[str], Rename], ...]

CLASSIFIER = Drop("the ImageNet classifier, which a detector does not have")
BATCH_COUNTER = Drop("counts the batches of a batch normalization, which is frozen here")
STATED = Drop("the config states it")
PIXEL_STATISTICS = ("pixel_mean", "pixel_std")
CELL_ANCHORS = "anchor_generator.cell_anchors"  # in older files of Detectron2


def table(*rows: tuple[str, Rename]) -> Table:
    r"""A table of names: (pattern of a whole name there, name here), tried in order.

    The name is a template in which ``\1`` is the first group, a function of the match, or :class:`Drop`.
    """
    return tuple((re.compile(pattern), name) for pattern, name in rows)


def translate_names(values: Mapping[str, Any], names: Table, what: str) -> Translation:
    """``values`` under the names that a table gives them.

    Args:
        values: of a file.
        names: of :func:`table`.
        what: the source, for the error.

    Raises:
        ValueError: the keys that fit no pattern, or whose place another key has taken.
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
        raise ValueError(f"{what} has no place for {len(unknown)} entries of the file: {', '.join(unknown)}")
    return Translation(weights, dropped)


def renamed(names: Table, what: str) -> Callable[[Mapping[str, Any]], Translation]:
    """What a source translates with that differs in names alone: :func:`translate_names` with this table."""
    return lambda values: translate_names(values, names, what)


def _look_up(key: str, names: Table) -> str | Drop | None:
    for pattern, name in names:
        match = pattern.fullmatch(key)
        if match:
            return name if isinstance(name, Drop) else match.expand(name) if isinstance(name, str) else name(match)
    return None


def has_names(*names: str) -> Callable[[Mapping[str, Any]], bool]:
    """A function that says whether a file has all of ``names``."""
    return lambda values: values.keys() >= set(names)


def is_backbone_with(name: str) -> Callable[[Mapping[str, Any]], bool]:
    """A function that says whether a file has ``name``, with or without its place in a detector, but no detector."""
    return lambda values: (
        (name in values or BACKBONE + name in values) and not any(key.startswith("backbone.fpn_") for key in values)
    )


def keep_names(values: Mapping[str, Any]) -> Translation:
    """The translation of files that have the names of this package: everything but what the config states."""
    stated = {key: STATED.reason for key in values if key in PIXEL_STATISTICS or CELL_ANCHORS in key}
    return Translation({key: value for key, value in values.items() if key not in stated}, stated)


def resnet_rows(theirs: str, ours: str) -> tuple[tuple[str, Rename], ...]:
    """The rows of a table for a ResNet or ResNeXt with torchvision's names, its deformable convolutions included.

    Args:
        theirs: pattern of the prefix there, without groups.
        ours: prefix here.
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
