"""Arrays in files of a folder, up to a number of bytes."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError
from .files import atomic_write, make_folder, remove_temporary_files

logger = logging.getLogger(__name__)

SUFFIX = ".array"
_CHECKSUM_BYTES = 4


class ArrayCache:
    """Keeps arrays by name between runs. It is only ever a shortcut: what it lost is computed again.

    A file that is damaged counts as missing and is replaced. Once the folder is full, further arrays are not kept:
    those who read them do so in the same order again and again, where dropping old ones for new ones would hit nothing.

    Attributes:
        bytes: What the arrays take on the disk.
        hits, misses: How often :meth:`get` found an array, and how often it did not.
    """

    def __init__(self, folder: str | os.PathLike[str], max_bytes: int) -> None:
        """
        Args:
            folder: Where the files are; it is created, and may hold the arrays of an earlier run.
            max_bytes: Most that they take together; 0 to keep none.

        Raises:
            ConfigError: The folder cannot be created.
        """
        self.folder, self.max_bytes = Path(folder), max_bytes
        self.hits = self.misses = 0
        self._is_full = False
        if max_bytes:
            make_folder(folder)
            remove_temporary_files(folder)
        self.bytes = sum(path.stat().st_size for path in self.folder.glob(f"*{SUFFIX}"))

    def get(self, name: str) -> NDArray[Any] | None:
        """Return the array of a name, or None if there is none, or its file is damaged."""
        path = self._path(name)
        found = _read(path) if path.is_file() else None
        if found is None:
            self.misses += 1
        else:
            self.hits += 1
        return found

    def put(self, name: str, array: NDArray[Any]) -> bool:
        """Keep an array of numbers; return False if there is no room for it."""
        file = io.BytesIO()
        np.lib.format.write_array(file, array, allow_pickle=False)
        content, path = file.getvalue(), self._path(name)
        old = path.stat().st_size if path.is_file() else 0
        size = len(content) + _CHECKSUM_BYTES
        if self.bytes - old + size > self.max_bytes:
            self._say_full("it has reached its limit")
            return False
        try:
            with atomic_write(path, "wb", durable=False) as output:
                output.write(zlib.crc32(content).to_bytes(_CHECKSUM_BYTES, "big") + content)
        except ConfigError as error:  # such as a full disk, which need not end a long computation
            self._say_full(str(error))
            return False
        self.bytes += size - old
        return True

    def _say_full(self, reason: str) -> None:
        if self.max_bytes and not self._is_full:
            logger.warning(
                f"{self.folder} keeps no more than {self.bytes / 1e9:.3g} GB: {reason}; the rest is computed each time"
            )
        self._is_full = True

    def _path(self, name: str) -> Path:
        return self.folder / (hashlib.sha256(name.encode()).hexdigest()[:32] + SUFFIX)


def _read(path: Path) -> NDArray[Any] | None:
    """Return the array of a file; None, with a warning, if it is damaged or cannot be read."""
    try:
        content = path.read_bytes()
        checksum, data = content[:_CHECKSUM_BYTES], content[_CHECKSUM_BYTES:]
        if zlib.crc32(data).to_bytes(_CHECKSUM_BYTES, "big") != checksum:
            raise ValueError("its checksum differs")
        return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except (OSError, ValueError) as error:
        logger.warning(f"{path} is damaged ({error}): it is computed again")
        return None
