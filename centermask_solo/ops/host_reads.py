"""Whether to compute without reading results on the host: the one choice between code for GPUs and code for CPUs.

A GPU runs behind its host, and waits for it at each number that the host reads, so on a GPU it is faster to compute
everything for a fixed number of objects. On a CPU a read costs nothing, and it pays to compute only what is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_everywhere = False


def avoids_host_reads(device: torch.device) -> bool:
    """Return whether code on ``device`` should not read tensors on the host: True on all devices but a CPU."""
    return _everywhere or device.type != "cpu"


@contextmanager
def avoiding_host_reads() -> Iterator[None]:
    """Return a context in which a CPU computes as a GPU does, to test and to compare."""
    global _everywhere
    before, _everywhere = _everywhere, True
    try:
        yield
    finally:
        _everywhere = before
