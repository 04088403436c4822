"""The formats of exported models, as a table of data."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..utils.errors import ConfigError, MissingPackageError
from ..utils.text import nearest_hint
from .checksum import ONNX as ONNX_ENDING
from .checksum import XML as XML_ENDING
from .checksum import Ending

VARIANTS = {
    "detections": "boxes, scores, classes and masks of K detections, the masks at the model's own resolution",
    "full-masks": "the same with masks of the size of the input, thresholded",
    "raw": "what the networks compute, before decoding",
}


@dataclass(frozen=True)
class Package:
    """A package that a format needs, and the versions that work: from ``least`` on, before ``below``."""

    name: str
    least: str
    below: str


ONNX = Package("onnx", "1.18", "2")
ONNXSCRIPT = Package("onnxscript", "0.7.2", "1")  # earlier ones fail on operators of these graphs
ONNXRUNTIME = Package("onnxruntime", "1.23", "2")
OPENVINO = Package("openvino", "2025.2", "2027")
TORCH = Package("torch", "2.9", "3")


@dataclass(frozen=True)
class Format:
    """A format of exported models.

    Attributes:
        name: As in ``--format``.
        suffix: Of its files.
        title: Its name for people.
        to_write: Packages that exporting needs.
        to_run: Packages that running a file needs.
        writer: Module and function that write a file, below this package.
        session: Module and class that run a file, below this package.
        variants: Which of :data:`VARIANTS` it supports.
        half: Whether weights can be stored as float16.
        to_quantize: Packages that 8-bit integers need beside ``to_write``; None if the format does not have them.
        ending: What files end in that tells damage; None if the format has checksums of its own.
    """

    name: str
    suffix: str
    title: str
    to_write: tuple[Package, ...]
    to_run: tuple[Package, ...]
    writer: str
    session: str
    variants: tuple[str, ...] = tuple(VARIANTS)
    half: bool = False
    to_quantize: tuple[Package, ...] | None = None
    ending: Ending | None = None


FORMATS = {
    x.name: x
    for x in (
        Format(
            name="onnx",
            suffix=".onnx",
            title="ONNX",
            to_write=(TORCH, ONNX, ONNXSCRIPT),
            to_run=(ONNXRUNTIME,),
            writer="export.onnx_file:write",
            session="runtime.onnx_session:OnnxSession",
            half=True,
            to_quantize=(),
            ending=ONNX_ENDING,
        ),
        Format(
            name="openvino",
            suffix=".xml",
            title="OpenVINO",
            to_write=(TORCH, OPENVINO),
            to_run=(OPENVINO,),
            writer="export.openvino_file:write",
            session="runtime.openvino_session:OpenVINOSession",
            half=True,
            to_quantize=(ONNX, ONNXSCRIPT, ONNXRUNTIME),
            ending=XML_ENDING,
        ),
        Format(
            name="pt2",
            suffix=".pt2",
            title="torch.export",
            to_write=(TORCH,),
            to_run=(TORCH,),
            writer="export.pt2_file:write",
            session="runtime.pt2_session:PT2Session",
        ),
    )
}


def find_format(name: str) -> Format:
    """Return the format of that name.

    Raises:
        ConfigError: There is none.
    """
    if name not in FORMATS:
        raise ConfigError(
            f"the format {name!r} of exported models is unknown{nearest_hint(name, FORMATS)}: use {', '.join(FORMATS)}"
        )
    return FORMATS[name]


def format_of_file(path: str | os.PathLike[str]) -> Format | None:
    """Return the format that a file has by its suffix; None for other files, such as weights."""
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    return next((x for x in FORMATS.values() if x.suffix == suffix), None)


def files_of(path: str) -> list[str]:
    """Return the files that an exported model consists of: OpenVINO's weights are in a .bin beside the .xml."""
    base, suffix = os.path.splitext(path)
    return [path, f"{base}.bin"] if suffix.lower() == FORMATS["openvino"].suffix else [path]


def as_path(path: Any) -> str:
    """Return the path of a file as a text.

    Raises:
        ConfigError: It is no path.
    """
    try:
        return os.fsdecode(path)
    except TypeError as error:
        raise ConfigError(f"{path!r} is no path of a file: give a text or a pathlib.Path") from error


def unverified_name(path: str) -> str:
    """Return the name of an exported file until it has been compared with PyTorch, such as "model.unverified.onnx"."""
    base, suffix = os.path.splitext(path)
    return f"{base}.unverified{suffix}"


def choose_format(name: str, path: str) -> Format:
    """Return the format of a file to write.

    Args:
        name: Name of the format; "" for the one that the suffix of the file says.
        path: The file.

    Raises:
        ConfigError: There is no such format, or the file has the suffix of another one.
    """
    by_suffix = format_of_file(path)
    form = find_format(name) if name else by_suffix
    if form is None:
        choices = ", ".join(f"{x.suffix} ({x.name})" for x in FORMATS.values())
        raise ConfigError(f"{path} does not say its format: end it in one of {choices}")
    if form is not by_suffix:
        raise ConfigError(f"{path} is to be a file of the format {form.name}: end its name in {form.suffix}")
    return form


def check_choice(form: Format, variant: str, half: bool, int8: bool = False) -> None:
    """Raise ConfigError unless a format supports a variant and, if asked for, weights in float16 or 8-bit integers."""
    if variant not in VARIANTS:
        raise ConfigError(f"the variant {variant!r} is unknown{nearest_hint(variant, VARIANTS)}: {', '.join(VARIANTS)}")
    if variant not in form.variants:
        raise ConfigError(f"{form.title} does not support the variant {variant}: use {', '.join(form.variants)}")
    if half and not form.half:
        able = ", ".join(x.name for x in FORMATS.values() if x.half)
        raise ConfigError(f"{form.title} cannot store weights as float16: use {able}, or leave out --half")
    if int8 and form.to_quantize is None:
        able = ", ".join(x.name for x in FORMATS.values() if x.to_quantize is not None)
        raise ConfigError(f"{form.title} has no 8-bit integers: use {able}, or leave out --int8")
    if int8 and half:
        raise ConfigError("weights are float16 or 8-bit integers, not both: leave out --half or --int8")


def check_no_options(path: str, given: Iterable[str]) -> None:
    """Raise ConfigError if options are given, "" aside, that an exported file cannot obey."""
    names = [x for x in given if x]
    if names:
        raise ConfigError(f"{path} is an exported model, whose options are fixed: leave out {', '.join(names)}")


def check_packages(packages: tuple[Package, ...], purpose: str) -> None:
    """Raise MissingPackageError unless packages are installed in versions that work; imports none of them.

    Args:
        packages: What is needed.
        purpose: Who needs them, such as "the format onnx".
    """
    for package in packages:
        found = package_version(package.name)
        bounds = f"{package.name}>={package.least},<{package.below}"
        if found is None or not _numbers(package.least) <= _numbers(found) < _numbers(package.below):
            state = "is not installed" if found is None else f"{found} does not work"
            fix = f"run 'pip install \"{bounds}\"'"
            if package is not TORCH:
                fix += ", or install centermask_solo with its extra [export]"
            raise MissingPackageError(f"{purpose} needs {bounds}, but {package.name} {state}: {fix}")


def resolve(name: str) -> Any:
    """Return what a "module:attribute" of the table names; imports the module."""
    module, attribute = name.split(":")
    package = __package__.rpartition(".")[0]
    return getattr(importlib.import_module(f"{package}.{module}"), attribute)


def package_version(package: str) -> str | None:
    """Return the version of a package that is installed; None if it is not."""
    names = (package, f"{package}-gpu") if package == "onnxruntime" else (package,)  # the one for GPUs is the same
    for name in names:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, without what follows them, such as "rc1" or "+cpu"."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(x) for x in found[0].split(".")) if found else ()
