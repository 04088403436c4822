"""What a weight file is, and how much memory it asks for: found before anything of it is unpacked."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from collections.abc import Callable
from typing import IO, Any
from zipfile import BadZipFile, ZipFile, is_zipfile

from ..utils.errors import WeightsError
from ..utils.pickles import Inert, check_opcodes

_SLACK = 2**26  # bytes that a file may unpack to beyond four times its size
# The beginnings of what is often saved under the name of a weight file, and what to do about it.
_OTHER_FILES: tuple[tuple[Callable[[bytes], bool], str], ...] = (
    (lambda head: not head, "is empty: download it again"),
    (lambda head: head.startswith(b"version https://git-lfs"), "is a pointer of Git LFS: run git lfs pull"),
    (
        lambda head: head.lstrip()[:64].lower().startswith((b"<!doctype html", b"<html", b"<?xml")),
        "is a web page, not weights: download the file that the page links to",
    ),
    (lambda head: head.startswith(b"\x89HDF"), "is an HDF5 file, such as Keras writes: convert it to PyTorch first"),
    (lambda head: head.startswith((b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!")), "is a compressed archive: unpack it first"),
)


def is_safetensors(path: str) -> bool:
    """Return whether a file has the format of safetensors, whatever its name."""
    with open(path, "rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") <= os.path.getsize(path) - 8


def check_archive(path: str) -> None:
    """Raise an error if a file is no weight file, or asks for much more memory than its size.

    Args:
        path: Path of an existing file.

    Raises:
        WeightsError: The message says what the file is.
        pickle.UnpicklingError: It is damaged. So may be what raises another error of :data:`~..utils.pickles.DAMAGED`.
    """
    with open(path, "rb") as file:
        head = file.read(512)
        for matches, message in _OTHER_FILES:
            if matches(head):
                raise WeightsError(f"{path} {message}")
        file.seek(0)
        if is_zipfile(path):
            _check_zip(path)
        elif path.endswith(".pkl"):
            check_opcodes(file)
        elif tarfile.is_tarfile(path):
            raise WeightsError(f"{path} is of a PyTorch older than 0.1.10: load and save it with PyTorch 1 first")
        else:
            _check_pickles(file)


def _check_zip(path: str) -> None:
    """Check the sizes in the directory of PyTorch's current format, then its pickles."""
    size = os.path.getsize(path)
    try:
        with ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > 4 * size + _SLACK:
                raise WeightsError(
                    f"{path} would unpack from {size / 1e6:.1f} MB to {unpacked / 1e9:.1f} GB, which no checkpoint "
                    "does: it is damaged, or made to fill the memory; download it again from a source that you trust"
                )
            pickles = [entry for entry in archive.infolist() if entry.filename.endswith("data.pkl")]
            for entry in pickles:
                check_opcodes(io.BytesIO(archive.read(entry)))
    except BadZipFile as error:
        raise pickle.UnpicklingError(str(error)) from error
    if not pickles:
        raise WeightsError(f"{path} is a zip archive of other files: unpack it, and give the weight file inside")


def _check_pickles(file: IO[bytes]) -> None:
    """Check the pickles of PyTorch's format before version 1.6: each storage must fit into the file."""
    size = os.fstat(file.fileno()).st_size
    for _ in range(4):  # a magic number, a version, the machine, the content
        if file.tell() == size:
            return  # a pickle of plain values
        check_opcodes(file)
        _StorageScanner(file, budget=size).load()


class _StorageScanner(pickle.Unpickler):
    """Adds up the numbers of elements of the storages in a pickle, and builds nothing."""

    def __init__(self, file: IO[bytes], budget: int) -> None:
        super().__init__(file, encoding="latin1")
        self.budget = budget

    def find_class(self, module: str, name: str) -> Any:
        return Inert

    def persistent_load(self, pid: Any) -> Any:
        numbers = [part for part in pid if isinstance(part, int)] if isinstance(pid, tuple) else []
        if any(not 0 <= number <= self.budget for number in numbers):
            raise pickle.UnpicklingError("it claims storages larger than the file")
        return Inert()
