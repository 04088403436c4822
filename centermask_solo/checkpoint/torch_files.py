"""Files of PyTorch, read without importing a class or calling a function that the file names."""

from __future__ import annotations

import contextlib
import logging
import pickle
from collections import OrderedDict
from types import SimpleNamespace
from typing import IO, Any
from zipfile import is_zipfile

import torch
from torch import _utils

from ..utils.pickles import Inert, stand_in
from ..utils.text import printable

logger = logging.getLogger(__name__)

# What tensors are made of in the files of PyTorch.
_TENSOR_PARTS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    **{("torch._utils", name): getattr(_utils, name) for name in ("_rebuild_tensor_v2", "_rebuild_parameter")},
    **{("torch", name): value for name, value in vars(torch).items() if isinstance(value, torch.dtype)},
}


def read_torch(path: str, mapped: bool) -> Any:
    """Return the content of a file of PyTorch.

    Objects of other classes than PyTorch's tensors, as training frameworks store them beside the weights, are left
    out: :class:`~..utils.pickles.Inert` takes their places, and a warning names their classes.

    Args:
        path: Path of a file that :func:`~.archives.check_archive` has passed.
        mapped: Map the file into memory; files of PyTorch before 1.6 cannot be mapped, and are read.

    Raises:
        UnsafePickleError: The file refers to a function that could run code.
        pickle.UnpicklingError: It is damaged. So may be what raises another error of ``DAMAGED``.
    """
    # PyTorch maps only files whose names it can encode, and takes those of another format for what their suffix says
    mmap = mapped and is_zipfile(path) and printable(path) == path and not path.endswith(".safetensors")
    with contextlib.nullcontext(path) if mmap else open(path, "rb") as file:
        return _load(path, file, mmap)


def _load(path: str, file: str | IO[bytes], mmap: bool) -> Any:
    """Load a file, given by its path or as an open file."""
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        if "GLOBAL" not in str(error) and "class" not in str(error):
            raise
    if not isinstance(file, str):
        file.seek(0)
    left_out: set[str] = set()

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if (module, name) in _TENSOR_PARTS:
                return _TENSOR_PARTS[module, name]
            left_out.add(f"{module}.{name}")
            return stand_in(module, name)

    module = SimpleNamespace(
        __name__=__name__, Unpickler=Unpickler, load=lambda file, **options: Unpickler(file, **options).load()
    )
    content = torch.load(file, map_location="cpu", weights_only=False, mmap=mmap, pickle_module=module)
    if not isinstance(content, Inert):
        logger.warning("%s: left out objects that are not tensors: %s", path, ", ".join(sorted(left_out)))
    return content
