"""How often the host waits for a GPU, as CUDA's driver notices it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def counted_waits() -> Iterator[list[str]]:
    """Return a context that puts a message into the list for each wait of the host inside, when it ends."""
    messages: list[str] = []
    with _sync_debug_mode("warn"), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield messages
    messages += [str(x.message) for x in caught if "called a synchronizing CUDA operation" in str(x.message)]


@contextmanager
def waits_refused() -> Iterator[None]:
    """Return a context in which a wait of the host is a RuntimeError, with the stack of what waits."""
    with _sync_debug_mode("error"):
        yield


@contextmanager
def _sync_debug_mode(mode: str) -> Iterator[None]:
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode(mode)  # warns that it is a prototype
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
