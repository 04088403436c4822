"""Refuse what would make a GPU wait for its host, on any machine."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from centermask_solo.ops.host_reads import avoiding_host_reads

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
COPIES = ("aten::_to_copy", "aten::copy_")

METHODS = ("tolist", "numpy", "cpu")  # of tensors


class HostReads(TorchDispatchMode):
    """A context that counts operators that would synchronize a GPU with its host, and refuses them beyond a limit.

    ``tolist``, ``numpy`` and ``cpu`` count too, although they do not reach the dispatcher for tensors on a CPU. Copies
    between devices count where there are any: see :func:`fake_gpu`.

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
        self._patches = ExitStack()
        for name in METHODS:
            self._patches.enter_context(mock.patch.object(torch.Tensor, name, self._noting(name)))
        self._patches.enter_context(mock.patch.object(FakeTensor, "tolist", self._list_of_ones))
        return super().__enter__()

    def __exit__(self, *args: Any) -> None:
        super().__exit__(*args)
        self._patches.close()

    def _noting(self, name: str) -> Callable[..., Any]:
        method = getattr(torch.Tensor, name)

        def read(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            self.note(f"Tensor.{name}")
            return method(tensor, *args, **kwargs)

        return read

    @property
    def _list_of_ones(self) -> Callable[[torch.Tensor], Any]:
        def read(tensor: torch.Tensor) -> Any:
            """Return a list, although the tensor has no values."""
            self.note("Tensor.tolist")
            return np.ones(tensor.shape, str(tensor.dtype).removeprefix("torch.")).tolist()

        return read

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.name()
        base = name.split(".")[0]
        if name in READS and kwargs.get("output_size") is None:  # a size that is given need not be read
            self.note(name)
        elif base in INDEXING and _must_read(args[0], args[1]):
            self.note(f"{name} by a mask, or from another device")
        elif base in COPIES and _waits(base, args, kwargs):
            self.note(f"{name} from {args[-1].device} to {kwargs.get('device', args[0].device)}")
        return func(*args, **kwargs)

    def note(self, name: str) -> None:
        """Count one read, by its name."""
        self.reads.append(name)
        if self.limit is not None and len(self.reads) > self.limit:
            raise AssertionError(f"{len(self.reads)} host reads, where {self.limit} are allowed: {self.reads}")


def _must_read(values: torch.Tensor, indices: Any) -> bool:
    given = [x for x in indices if x is not None]
    return any(x.dtype in (torch.bool, torch.uint8) or x.device != values.device for x in given)


def _waits(name: str, args: Any, kwargs: Any) -> bool:
    """Whether a copy goes to the host, or makes the host wait until it has arrived."""
    if name == "aten::copy_":
        to, source = args[0].device, args[1]
        non_blocking = kwargs.get("non_blocking", args[2] if len(args) > 2 else False)
        if source.ndim == 0 and source.device.type == "cpu":
            return False  # a number, passed to a kernel
    else:
        source, to, non_blocking = args[0], torch.device(kwargs.get("device") or args[0].device), None
        non_blocking = kwargs.get("non_blocking", False)
    if source.device.type == to.type:
        return False
    return to.type == "cpu" or not non_blocking


@contextmanager
def fake_gpu(model: nn.Module, limit: int | None = None) -> Iterator[tuple[nn.Module, HostReads]]:
    """Return a context in which a copy of a model lives on device "cuda", without values, and the reads there.

    It shows a wrong device, too, and copies between devices that wait. Whatever is read on the host is 1.

    Args:
        model: On the CPU.
        limit: As in :class:`HostReads`.
    """
    model = copy.deepcopy(model)
    torch._C._ensureCUDADeviceGuardSet()
    with FakeTensorMode(allow_non_fake_inputs=True):
        for module in model.modules():
            for tensors in (module._parameters, module._buffers):
                for name, x in tensors.items():
                    if x is not None:
                        there = torch.empty_like(x, device="cuda")
                        tensors[name] = nn.Parameter(there, False) if isinstance(x, nn.Parameter) else there
        with HostReads(limit) as reads:
            yield model, reads


@contextmanager
def cpu_as_gpu(limit: int | None = None) -> Iterator[HostReads]:
    """Return a context in which a CPU computes what a GPU would.

    Args:
        limit: As in :class:`HostReads`.
    """
    with avoiding_host_reads(), HostReads(limit) as reads:
        yield reads
