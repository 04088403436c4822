"""Checksums at the end of exported files, by which damage is found that runtimes would compute with."""

from __future__ import annotations

import hashlib
import os
from typing import NamedTuple

from ..utils.errors import WeightsError

_NAME = b"centermask_solo_sha256"
_DIGITS = hashlib.sha256().digest_size * 2
_BLOCK = 1 << 20  # bytes read at a time


class Ending(NamedTuple):
    """The last bytes of a file of some format: what stands around the SHA-256, in hexadecimal digits, of the others."""

    before: bytes
    after: bytes

    def of(self, digest: str) -> bytes:
        """Return the ending with a digest."""
        return self.before + digest.encode() + self.after


# One more of the ``metadata_props``: protobuf lets repeated fields be appended. Its value stands before its key, which
# readers must accept and no writer does: a program that writes the file again leaves no digest of what it was.
_KEY = b"\x0a" + bytes([len(_NAME)]) + _NAME
_VALUE = b"\x12" + bytes([_DIGITS])
ONNX = Ending(b"\x72" + bytes([len(_VALUE) + _DIGITS + len(_KEY)]) + _VALUE, _KEY)
XML = Ending(b"<!-- " + _NAME + b" ", b" -->\n")  # a comment, which other programs drop


def is_intact(path: str, ending: Ending) -> bool:
    """Return whether a file is as it was exported; False if it cannot be told, as it has no such ending.

    Args:
        path: The file.
        ending: That of its format.

    Raises:
        WeightsError: The file has an ending of other bytes.
    """
    digest, length = hashlib.sha256(), len(ending.of("")) + _DIGITS
    with open(path, "rb") as file:
        rest = max(os.fstat(file.fileno()).st_size - length, 0)
        while block := file.read(min(rest, _BLOCK)):
            digest.update(block)
            rest -= len(block)
        end = file.read()
    if not (len(end) == length and end.startswith(ending.before) and end.endswith(ending.after)):
        return False
    if end != ending.of(digest.hexdigest()):
        raise WeightsError(f"{path} is damaged or was changed after its export: export it again")
    return True
