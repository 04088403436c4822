"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from .errors import ConfigError


def make_folder(path: str | os.PathLike[str]) -> None:
    """Create a folder and its parents unless it exists.

    Raises:
        ConfigError: It cannot be created.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # the latter of a zero byte
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"the folder {os.fspath(path)} cannot be created ({reason}): choose another path") from error


@contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file that replaces ``path`` once it has been written without an error.

    It is written under a temporary name in the same folder, which is created if it does not exist; after an error the
    temporary file is gone and ``path`` is what it was.

    Args:
        path: File to write.
        mode: "w" for text in UTF-8, "wb" for bytes.

    Raises:
        ConfigError: The folder cannot be created.
    """
    target = Path(path)
    make_folder(target.parent)
    encoding = None if "b" in mode else "utf-8"
    if os.path.isdir(target):
        raise ConfigError(f"{path} cannot be written, because it is a folder: choose another path")
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name[:40]}.", suffix=".tmp", dir=target.parent)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{path} cannot be written ({reason}): choose another path") from error
    try:
        with open(descriptor, mode, encoding=encoding) as file:
            yield file
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    """Return the umask of the process, which only setting it reveals."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
