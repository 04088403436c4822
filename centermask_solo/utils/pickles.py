"""Unpickling of arrays and plain values that cannot run code."""

from __future__ import annotations

import pickle
from collections.abc import Collection
from typing import IO, Any

# What a pickle of arrays and plain values refers to; NumPy has renamed its modules.
SAFE_GLOBALS = frozenset(
    {
        ("__builtin__", "bytes"),  # in an empty array
        ("_codecs", "encode"),
        ("collections", "OrderedDict"),
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
    }
    | {
        (f"numpy.{core}.multiarray", name)
        for core in ("core", "_core")
        for name in ("_reconstruct", "scalar", "_frombuffer")
    }
    | {(f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")}
)


class UnsafePickleError(pickle.UnpicklingError):
    """A pickle that refers to a class or function that could run code; the message names it."""


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler that refuses every global outside its allowlist."""

    def __init__(self, file: IO[bytes], allowed: Collection[tuple[str, str]]) -> None:
        super().__init__(file, encoding="latin1")  # arrays written by Python 2 are read, too
        self.allowed = allowed

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            raise UnsafePickleError(f"it holds a {module}.{name}")
        return super().find_class(module, name)


def load_arrays(file: IO[bytes], extra_globals: Collection[tuple[str, str]] = ()) -> Any:
    """Return the content of a pickle of NumPy arrays and plain values.

    Args:
        file: Binary file to read.
        extra_globals: Further (module, name) pairs to allow, which the caller knows to be harmless.

    Raises:
        UnsafePickleError: The pickle refers to anything that is not allowed.
        pickle.UnpicklingError: It is damaged. So may be what raises EOFError, ValueError, TypeError, AttributeError,
            KeyError or IndexError.
    """
    return _ArrayUnpickler(file, SAFE_GLOBALS | set(extra_globals)).load()
