"""Unpickling of arrays of numbers and plain values: runs no code from the file, and takes no more memory than its size.

The pickle never calls a function of NumPy. It gets stand-ins, whose results become arrays once everything is read.
"""

from __future__ import annotations

import os
import pickle
import pickletools
import struct
import sys
import zlib
from collections import OrderedDict
from collections.abc import Collection
from typing import IO, Any

import numpy as np

_CORES = ("numpy.core", "numpy._core")  # NumPy has renamed its modules
_NUMBERS = "biufc"  # kinds of dtypes
DAMAGED = (  # what a damaged pickle or archive raises, here, in Python's modules and in PyTorch
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    IndexError,
    AssertionError,
    OverflowError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
)


class UnsafePickleError(pickle.UnpicklingError):
    """A pickle that refers to a class or function that could run code; the message names it."""


class Inert:
    """Takes the place of an object whose class is not imported; forgets whatever the pickle gives it."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...

    def __setitem__(self, _: Any, __: Any) -> None: ...

    def append(self, _: Any) -> None: ...

    def extend(self, _: Any) -> None: ...

    def add(self, _: Any) -> None: ...


_HARMLESS_MODULES = ("argparse", "types", "pathlib", "datetime", "collections", "enum", "uuid", "decimal")
_HARMLESS = {
    (module, name)
    for module in ("builtins", "__builtin__", "copyreg", "copy_reg")
    for name in ("object", "set", "frozenset", "slice", "range", "complex", "_reconstructor")
}


def stand_in(module: str, name: str) -> type[Inert]:
    """Return :class:`Inert` in place of a class, such as one of a training framework.

    Raises:
        UnsafePickleError: It is one of Python's own functions. Nothing but an attack refers to these.
    """
    top = module.partition(".")[0]
    own = top in sys.stdlib_module_names or top == "__builtin__"
    if own and top not in _HARMLESS_MODULES and (module, name) not in _HARMLESS:
        raise UnsafePickleError(f"it holds a {module}.{name}")
    return Inert


class _DType:
    """Stands for ``numpy.dtype``: the dtype of a number."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.value = np.dtype(code if isinstance(code, str) else "V")
        if self.value.kind not in _NUMBERS:
            raise pickle.UnpicklingError(f"it holds an array of {code!r} instead of numbers")

    def __setstate__(self, state: Any) -> None:
        _, order, *structure = state[:5]
        if any(part is not None for part in structure):
            raise pickle.UnpicklingError("it holds an array of structures instead of numbers")
        if order in ("<", ">"):
            self.value = self.value.newbyteorder(order)


class _Array:
    """Stands for an array whose content follows."""

    value: Any = np.zeros(0)

    def __init__(self, *_: Any) -> None:
        """Take the arguments of NumPy's ``_reconstruct``, which say nothing yet."""

    def __setstate__(self, state: Any) -> None:
        *_, shape, dtype, is_fortran, data = state
        self.value = _make_array(data, dtype, shape, "F" if is_fortran else "C")


class _ArrayType:
    """Stands for ``numpy.ndarray``, which a pickle names but may not call."""

    def __init__(self, *_: Any) -> None:
        raise UnsafePickleError("it calls numpy.ndarray")


def _make_array(data: Any, dtype: _DType, shape: Any, order: str) -> Any:
    """Return a view of ``data`` with the given type and shape."""
    buffer = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(buffer, dtype.value).reshape(shape, order="F" if order == "F" else "C")


def _make_scalar(dtype: _DType, data: Any) -> Any:
    return _make_array(data, dtype, (1,), "C")[0]


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise UnsafePickleError(f"it encodes text as {encoding!r}")
    return text.encode("latin1")


def _make_bytes(*parts: Any) -> bytes:
    return _encode(*parts) if parts else b""


_STAND_INS: dict[tuple[str, str], Any] = {
    ("__builtin__", "bytes"): _make_bytes,  # in an empty array
    ("builtins", "bytes"): _make_bytes,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "dtype"): _DType,
    ("numpy", "ndarray"): _ArrayType,
}
for _core in _CORES:
    _STAND_INS[f"{_core}.multiarray", "_reconstruct"] = _Array
    _STAND_INS[f"{_core}.multiarray", "scalar"] = _make_scalar
    for _module in ("multiarray", "numeric"):
        _STAND_INS[f"{_core}.{_module}", "_frombuffer"] = _make_array


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler that imports nothing outside its allowlist."""

    def __init__(self, file: IO[bytes], extra: Collection[tuple[str, str]]) -> None:
        super().__init__(file, encoding="latin1")  # arrays written by Python 2 are read, too
        self.extra = extra

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _STAND_INS:
            return _STAND_INS[module, name]
        if (module, name) in self.extra:
            return super().find_class(module, name)
        return stand_in(module, name)


def load_arrays(file: IO[bytes], extra_globals: Collection[tuple[str, str]] = ()) -> Any:
    """Return the content of a pickle of NumPy arrays of numbers and plain values; other objects become :class:`Inert`.

    Args:
        file: Binary file to read, which can seek.
        extra_globals: Further (module, name) pairs to allow, which the caller knows to be harmless.

    Raises:
        UnsafePickleError: The pickle refers to a function that could run code.
        pickle.UnpicklingError: It is damaged. So may be what raises another error of :data:`DAMAGED`.
    """
    check_opcodes(file)
    content = _ArrayUnpickler(file, extra_globals).load()
    return _Resolver(_size_of(file)).resolve(content)


def check_opcodes(file: IO[bytes]) -> None:
    """Raise an error of :data:`DAMAGED` if a pickle claims more memory than its size; leave ``file`` where it was.

    Python's unpickler allocates what a length or a place in its memo claims, before it reads that much.
    """
    start = file.tell()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and (argument or 0) > count:
            raise pickle.UnpicklingError("it claims more memory than it needs")
    file.seek(start)


def _size_of(file: IO[bytes]) -> int:
    """Return the size of a file in bytes; the position becomes its end."""
    return int(file.seek(0, os.SEEK_END))


class _Resolver:
    """Replaces the stand-ins in what was unpickled by arrays that own their memory.

    Args:
        budget: Bytes that all arrays together may take.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.resolved: dict[int, Any] = {}

    def resolve(self, value: Any) -> Any:
        """Return ``value`` with arrays, also inside of dicts, lists and tuples; what is shared stays shared."""
        if not isinstance(value, dict | list | tuple | _Array | np.ndarray):
            return value
        if id(value) not in self.resolved:
            self.resolved[id(value)] = None  # of a container that holds itself
            self.resolved[id(value)] = self._convert(value)
        return self.resolved[id(value)]

    def _convert(self, value: Any) -> Any:
        if isinstance(value, dict):
            return type(value)((key, self.resolve(entry)) for key, entry in value.items())
        if isinstance(value, list | tuple):
            return type(value)([self.resolve(entry) for entry in value])
        array = value.value if isinstance(value, _Array) else value
        self.budget -= array.nbytes
        if self.budget < 0:
            raise pickle.UnpicklingError("its arrays are larger than the file")
        return array.copy()
