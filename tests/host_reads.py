"""Refuse what would make a GPU wait for its host, on any machine."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# Operators whose result's size depends on data, or that copy data to the host.
READS = {
    "aten::_local_scalar_dense",
    "aten::item",
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique2",
    "aten::unique_dim",
    "aten::unique_consecutive",
    "aten::bincount",
    "aten::repeat_interleave.Tensor",
    "aten::equal",
    "aten::is_nonzero",
    "torchvision::nms",
}
# Operators that take a mask as an index, whose size they must read.
INDEXING = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")

METHODS = ("tolist", "numpy", "cpu")  # of tensors


class HostReads(TorchDispatchMode):
    """A context that counts operators that would synchronize a GPU with its host, and refuses them beyond a limit.

    ``tolist``, ``numpy`` and ``cpu`` count too, although they do not reach the dispatcher for tensors on a CPU.

    Attributes:
        reads: Names of the operators that did, in order.
    """

    def __init__(self, limit: int | None = None) -> None:
        """
        Args:
            limit: Number of reads beyond which an AssertionError is raised; None for no limit.
        """
        super().__init__()
        self.limit = limit
        self.reads: list[str] = []

    def __enter__(self) -> Any:
        for name in METHODS:
            setattr(torch.Tensor, name, self._noting(name))
        return super().__enter__()

    def __exit__(self, *args: Any) -> None:
        super().__exit__(*args)
        for name in METHODS:
            delattr(torch.Tensor, name)  # uncovers the inherited method

    def _noting(self, name: str) -> Any:
        method = getattr(torch.Tensor, name)

        def read(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            self.note(f"Tensor.{name}")
            return method(tensor, *args, **kwargs)

        return read

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name()
        if name in READS or (name.split(".")[0] in INDEXING and _indexes_by_mask(args[1])):
            self.note(name)
        return func(*args, **(kwargs or {}))

    def note(self, name: str) -> None:
        """Count one read, by its name."""
        self.reads.append(name)
        if self.limit is not None and len(self.reads) > self.limit:
            raise AssertionError(f"{len(self.reads)} host reads, where {self.limit} are allowed: {self.reads}")


def _indexes_by_mask(indices: Any) -> bool:
    return any(x is not None and x.dtype in (torch.bool, torch.uint8) for x in indices)
