"""Files of PyTorch, read without importing a class or calling a function that the file names."""

from __future__ import annotations

import logging
import pickle
from collections import OrderedDict
from types import SimpleNamespace
from typing import Any
from zipfile import is_zipfile

import torch
from torch import _utils

from ..utils.pickles import Inert, stand_in

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
    mmap = mapped and is_zipfile(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        if "GLOBAL" not in str(error) and "class" not in str(error):
            raise
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
    content = torch.load(path, map_location="cpu", weights_only=False, mmap=mmap, pickle_module=module)
    if not isinstance(content, Inert):
        logger.warning("%s: left out objects that are not tensors: %s", path, ", ".join(sorted(left_out)))
    return content
