"""What runs an exported file, whatever its format."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from ..utils.errors import ConfigError, UserError, WeightsError
from ..utils.rules import COUNT
from ..utils.text import first_line
from .formats import FORMATS, check_packages, files_of, format_of_file, resolve
from .metadata import Metadata, parse_metadata

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class RunOptions:
    """How a file is run.

    Attributes:
        threads: Number of CPU threads; None for the runtime's choice.
        providers: What computes, in the words of the runtime: ONNX Runtime's execution providers, best first, or the
            name of one device of OpenVINO or PyTorch; empty for the CPU.
    """

    threads: int | None = None
    providers: tuple[Any, ...] = ()


class Session(Protocol):
    """A loaded file. Classes of this protocol are constructed from its path and :class:`RunOptions`.

    The constructor may raise anything over a damaged file.
    """

    @property
    def description(self) -> str | None:
        """The document of :mod:`.metadata`; None if the file has none."""

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """Return the outputs by name, from inputs by name."""


def open_file(path: str, threads: int | None = None, providers: Sequence[Any] = ()) -> tuple[Session, Metadata]:
    """Return what runs an exported file, and its metadata.

    Args:
        path: The file.
        threads: See :class:`RunOptions`.
        providers: See :class:`RunOptions`.

    Raises:
        ConfigError: The file is of no known format, or an option is wrong.
        MissingPackageError: What runs it is not installed, or in a version that does not work.
        WeightsError: The file is missing, damaged, or was made by another program or version.
    """
    if threads is not None and not COUNT.allows(threads):
        raise ConfigError(f"{threads!r} threads are impossible: give 1 or more, or None for the runtime's choice")
    form = format_of_file(path)
    if form is None:
        suffixes = ", ".join(x.suffix for x in FORMATS.values())
        raise ConfigError(f"{path} is no exported model: its name must end in one of {suffixes}")
    check_file(path)
    check_packages(form.to_run, f"{path}, a file of {form.title},")
    chosen = (providers,) if isinstance(providers, str) else tuple(providers)
    try:
        session: Session = resolve(form.session)(path, RunOptions(threads, chosen))
    except UserError:
        raise
    except Exception as error:  # whatever a runtime raises
        raise WeightsError(f"{path} cannot be read by {form.title} ({first_line(error)}): export it again") from error
    return session, parse_metadata(session.description, path)


def check_file(path: str) -> None:
    """Raise WeightsError unless the files of an exported model are there."""
    for part in files_of(path):
        if not os.path.isfile(part):
            why = "" if part == path else f", which belongs to {path}"
            raise WeightsError(f"there is no file {part}{why}: correct the path, or export the model again")
