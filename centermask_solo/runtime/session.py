"""What runs an exported file, whatever its format."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from ..utils.errors import ConfigError, UserError, WeightsError
from ..utils.rules import integer
from ..utils.text import first_line
from .checksum import is_intact
from .formats import FORMATS, as_path, check_packages, files_of, format_of_file, resolve
from .metadata import Metadata, parse_metadata

logger = logging.getLogger(__name__)

INPUTS = ("images", "image_sizes")  # of the graphs; some have the first one only
MAX_THREADS = 1024  # beyond what a machine has, runtimes fail for want of memory
Arrays = dict[str, NDArray[Any]]
Sizes = tuple[int | None, ...]  # of an array; None where a size is free or not stated
OUTPUT_SIZES: dict[str, Sizes] = {  # of detections
    "boxes": (None, None, 4),
    "scores": (None, None),
    "classes": (None, None),
    "masks": (None, None, None, None),
    "num_detections": (None,),
    "exact": (None,),
    "mask_scores": (None, None),
}


@dataclass(frozen=True)
class RunOptions:
    """How a file is run.

    Attributes:
        threads: Number of CPU threads, up to :data:`MAX_THREADS`; None for the runtime's choice.
        providers: What computes, in the words of the runtime: ONNX Runtime's execution providers, best first, or the
            name of one device of OpenVINO or PyTorch; empty for the CPU.
    """

    threads: int | None = None
    providers: tuple[Any, ...] = ()


class Session(Protocol):
    """A loaded file. Classes of this protocol are constructed from its path and :class:`RunOptions`.

    The constructor may raise anything over a damaged file, whose first line says why.

    Attributes:
        description: The document of :mod:`.metadata`; None if the file has none.
        inputs: The sizes of the inputs by their names.
        outputs: The sizes of the outputs by their names; empty where the runtime does not tell them.
    """

    description: str | None
    inputs: dict[str, Sizes]
    outputs: dict[str, Sizes]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """Return the outputs by name, from inputs by name."""


def open_file(
    path: str | os.PathLike[str], threads: int | None = None, providers: str | Sequence[Any] = ()
) -> tuple[Session, Metadata]:
    """Return what runs an exported file, and its metadata; log a warning if damage to the file could not be seen.

    Args:
        path: The file.
        threads: See :class:`RunOptions`.
        providers: See :class:`RunOptions`.

    Raises:
        ConfigError: The file is of no known format, or an option is wrong.
        MissingPackageError: What runs it is not installed, or in a version that does not work.
        WeightsError: The file is missing, damaged, or was made by another program or version.
    """
    if threads is not None and not integer(1, MAX_THREADS).allows(threads):
        raise ConfigError(
            f"{threads!r} threads are impossible: give 1 to {MAX_THREADS}, or None for the runtime's choice"
        )
    options, path = RunOptions(threads, _as_providers(providers)), as_path(path)
    form = format_of_file(path)
    if form is None:
        suffixes = ", ".join(x.suffix for x in FORMATS.values())
        raise ConfigError(f"{path} is no exported model: its name must end in one of {suffixes}")
    check_file(path)
    check_packages(form.to_run, f"{path}, a file of {form.title},")
    intact = form.ending is None or is_intact(path, form.ending)
    try:
        session: Session = resolve(form.session)(path, options)
    except UserError:
        raise
    except Exception as error:  # whatever a runtime raises
        raise WeightsError(f"{path} cannot be read by {form.title} ({first_line(error)}): export it again") from error
    metadata = parse_metadata(session.description, path)
    _check_fits(session, metadata, path)
    if not intact:
        logger.warning("%s has no checksum, as another program or version wrote it: damage to it cannot be seen", path)
    return session, metadata


def _as_providers(providers: Any) -> tuple[Any, ...]:
    """Return providers as a tuple of names and of pairs of a name and its options; one name stands for itself.

    Raises:
        ConfigError: They are anything else.
    """
    listed = (providers,) if isinstance(providers, str) else providers
    if not isinstance(listed, list | tuple) or not all(map(_is_provider, listed)):
        raise ConfigError(f"{providers!r} names no providers: give a list of names, or of pairs of a name and a dict")
    return tuple(listed)


def _is_provider(x: Any) -> bool:
    return isinstance(x, str) or (
        isinstance(x, tuple) and len(x) == 2 and isinstance(x[0], str) and isinstance(x[1], dict)
    )


def _check_fits(session: Session, metadata: Metadata, path: str) -> None:
    """Raise WeightsError unless a graph has the inputs and outputs that its metadata tell."""
    inputs = INPUTS if metadata.input.image_sizes else INPUTS[:1]
    size = session.inputs.get(inputs[0], ())[1:3]
    if session.inputs.keys() != set(inputs):
        fault = f"takes {', '.join(sorted(session.inputs))}, not {', '.join(inputs)}"
    elif None not in size and size != metadata.input.size:
        fault = f"takes images of the size {size}, not {metadata.input.size or 'any'}"
    elif not (fault := _fault_of_outputs(session, metadata)):
        return
    raise WeightsError(f"the description inside {path} is of another model, as the graph {fault}: export it again")


def _fault_of_outputs(session: Session, metadata: Metadata) -> str:
    """Return which output of a graph is missing, or has other sizes than what it is said to be; "" for none."""
    expected = {} if metadata.variant == "raw" else OUTPUT_SIZES
    for what, name in metadata.outputs.items():
        if name not in session.outputs:
            return f"has no output {name}"
        found, wanted = session.outputs[name], expected.get(what)
        if found and wanted and not _agree(found, wanted):
            return f"returns {what} of the size {_in_words(found)}, not {_in_words(wanted)}"
    return ""


def _agree(found: Sizes, wanted: Sizes) -> bool:
    return len(found) == len(wanted) and all(
        None in pair or pair[0] == pair[1] for pair in zip(found, wanted, strict=True)
    )


def _in_words(sizes: Sizes) -> str:
    return " x ".join("any" if n is None else str(n) for n in sizes)


def check_file(path: str) -> None:
    """Raise WeightsError unless the files of an exported model are there."""
    for part in files_of(path):
        if not os.path.isfile(part):
            why = "" if part == path else f", which belongs to {path}"
            raise WeightsError(f"there is no file {part}{why}: correct the path, or export the model again")
