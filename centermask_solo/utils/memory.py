"""The memory of this process, and Python's management of it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_STATUS, _MEMORY = Path("/proc/self/status"), Path("/proc/meminfo")  # of Linux
_GROUPS = Path("/sys/fs/cgroup")
_LIMITS = (  # of containers, of both versions: how much they may use, and do
    (_GROUPS / "memory.max", _GROUPS / "memory.current"),
    (_GROUPS / "memory/memory.limit_in_bytes", _GROUPS / "memory/memory.usage_in_bytes"),
)


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Pause the search for reference cycles, which costs more than the work itself where millions of objects live."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def resident_bytes() -> int:
    """Return the memory that this process has now; its highest so far where only that is known, as on macOS."""
    return _status("VmRSS") or highest_resident_bytes()


def highest_resident_bytes() -> int:
    """Return the highest memory of this process, on Linux since :func:`forget_highest`."""
    if found := _status("VmHWM"):
        return found
    try:
        import resource
    except ImportError:  # on Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def forget_highest() -> None:
    """Let the present memory be the highest; without effect where the system cannot do that."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def free_unused() -> None:
    """Give the memory that nothing uses any more back to the system, where the C library is glibc.

    Otherwise what comes next takes it without a change of :func:`resident_bytes`.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def available_bytes() -> int:
    """Return the memory that programs can still get without swapping, within the limit of their container.

    Where the system does not say, it is half of the machine's memory.
    """
    found = re.search(r"^MemAvailable:\s+(\d+) kB", _read(_MEMORY), re.MULTILINE)
    if not found:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2 if hasattr(os, "sysconf") else 0
    available = int(found[1]) * 1024
    for limit, used in _LIMITS:
        bound, now = _read(limit).strip(), _read(used).strip()
        if bound.isdigit() and now.isdigit():
            available = min(available, max(0, int(bound) - int(now)))
    return available


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _status(field: str) -> int:
    """Return a figure of Linux in bytes; 0 elsewhere."""
    if not _STATUS.exists():
        return 0
    found = re.search(rf"^{field}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
