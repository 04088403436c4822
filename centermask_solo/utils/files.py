"""Files that are written whole or not at all, and never over what a user did not mean to lose."""

from __future__ import annotations

import hashlib
import io
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from .errors import DISK_FIX, ConfigError

_Path = str | os.PathLike[str]

_BLOCK = 1 << 20  # bytes read at a time
_KEPT_OF_NAME = 40  # characters of the file's name in the temporary one, which may be no longer than a name can be
_TEMPORARY = re.compile(r"\..{1,40}\.[a-z0-9_]{8}\.tmp", re.DOTALL)


def make_folder(path: _Path) -> None:
    """Create a folder and its parents unless it exists.

    Raises:
        ConfigError: It cannot be created.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # the latter of a zero byte
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"the folder {os.fspath(path)} cannot be created ({reason}): choose another path") from error


class _Raw(io.FileIO):
    """A file that remembers why it could not be written, since encoders such as PyTorch's hide that."""

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.failure = error
            raise

    def fileno(self) -> int:
        """Refuse, because Pillow would write to the descriptor itself."""
        raise io.UnsupportedOperation("fileno")


@contextmanager
def atomic_write(path: _Path, mode: str = "w", *, durable: bool = True) -> Iterator[IO[Any]]:
    """Open a file that replaces ``path`` once it has been written without an error.

    It is written under a temporary name in the same folder, which is created if it does not exist; after an error the
    temporary file is gone and ``path`` is what it was.

    Args:
        path: File to write.
        mode: "w" for text in UTF-8, "wb" for bytes.
        durable: Wait until the content is on the disk, so that ``path`` is whole even after a power failure. Leave it
            out for what can be written again within seconds.

    Raises:
        ConfigError: The folder cannot be created, or the file cannot be written.
    """
    target = Path(path)
    make_folder(target.parent)
    _check_ordinary(path)
    try:
        prefix = f".{target.name[:_KEPT_OF_NAME]}."
        descriptor, temporary = tempfile.mkstemp(prefix=prefix, suffix=".tmp", dir=target.parent)
    except (OSError, ValueError) as error:  # the latter of a zero byte
        raise _unwritable(path, error) from error
    raw = _Raw(descriptor, "wb")
    buffer = io.BufferedWriter(raw)
    try:
        with buffer if "b" in mode else io.TextIOWrapper(buffer, encoding="utf-8") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(descriptor)
        os.chmod(temporary, 0o666 & ~_umask())
        _replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if raw.failure is not None and isinstance(error, Exception):
            raise _unwritable(path, raw.failure) from error
        raise


def _replace(temporary: str, path: _Path) -> None:
    try:
        os.replace(temporary, path)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: _Path, error: OSError | ValueError) -> ConfigError:
    reason = getattr(error, "strerror", None) or error
    return ConfigError(f"{os.fspath(path)} cannot be written ({reason}): {DISK_FIX}")


def open_to_write(path: _Path, mode: str = "w") -> IO[str]:
    """Open a text file in UTF-8 for incremental writing, which keeps what is written if the program is killed.

    Raises:
        ConfigError: It cannot be opened.
    """
    try:
        return open(path, mode, encoding="utf-8")
    except OSError as error:
        raise _unwritable(path, error) from error


def remove_temporary_files(folder: _Path, pattern: str = "*") -> list[str]:
    """Remove what :func:`atomic_write` left in a folder when its program was killed; return the names.

    Args:
        folder: A folder that no other program writes to.
        pattern: Which paths below it are looked at, as for ``Path.glob``.
    """
    found = [path for path in Path(folder).glob(pattern) if _TEMPORARY.fullmatch(path.name) and path.is_file()]
    for path in found:
        with suppress(OSError):  # a leftover does no harm
            path.unlink()
    return sorted(path.name for path in found)


def claim_file(path: _Path, inputs: Iterable[_Path] = (), *, overwrite: bool = False) -> None:
    """Check, before the work begins, that a file may be written.

    Args:
        path: File to write.
        inputs: Files that are read; it must be none of them, not even through a link or under another name.
        overwrite: Whether it may exist.

    Raises:
        ConfigError: It is an input, or exists, or is a folder or the like.
    """
    _check_name(path)
    _check_ordinary(path)
    if any(is_same(path, x) for x in inputs):
        raise ConfigError(f"{os.fspath(path)} is an input, which would be lost: choose another name for the output")
    if os.path.lexists(path) and not overwrite:
        raise ConfigError(f"{os.fspath(path)} exists already: choose another name, or replace it with --overwrite")


def claim_folder(
    folder: _Path, results: Iterable[str], inputs: Iterable[_Path] = (), *, overwrite: bool = False
) -> None:
    """Check, before the work begins, that files may be written to a folder.

    Args:
        folder: Folder to write to, which need not exist.
        results: Patterns of the names that are written there, as for ``Path.glob``.
        inputs: Files and folders that are read; none may be the folder or directly in it, not even through a link.
        overwrite: Whether it may hold such results already.

    Raises:
        ConfigError: An input is there, or such results are.
    """
    _check_name(folder)
    here = os.path.realpath(folder)
    for path in inputs:
        there = os.path.realpath(path)
        if here in (there, os.path.dirname(there)):
            raise ConfigError(
                f"the input {os.fspath(path)} is in the output folder {os.fspath(folder)}: choose another folder for "
                "the output, outside of the inputs"
            )
    found = next((path for pattern in results for path in sorted(Path(folder).glob(pattern))), None)
    if found is not None and not overwrite:
        raise ConfigError(
            f"{os.fspath(folder)} holds the results of another run, such as {found.name}: choose another folder, or "
            "replace them with --overwrite"
        )


def _check_name(path: _Path) -> None:
    if "\0" in os.fspath(path):
        raise ConfigError(f"{os.fspath(path)!r} cannot be written (embedded null byte): choose another path")


def _check_ordinary(path: _Path) -> None:
    if os.path.exists(path) and not os.path.isfile(path):
        kind = "a folder" if os.path.isdir(path) else "not an ordinary file"
        raise ConfigError(f"{os.fspath(path)} cannot be written (it is {kind}): choose another path")


def is_same(a: _Path, b: _Path) -> bool:
    """Return whether two paths, which need not exist, are of the same file."""
    try:
        return os.path.samefile(a, b)
    except OSError:
        return os.path.realpath(a) == os.path.realpath(b)


def _umask() -> int:
    """Return the umask of the process, which only setting it reveals."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def sha256_of(path: _Path) -> str:
    """Return the sha256 of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
