"""Evaluation packages that were written for an older numpy."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import ArrayLike, NDArray


class _OldNumPy:
    """numpy, with names that it no longer has: ``float`` (until 1.23) and ``in1d`` (until 2.3)."""

    float = float

    @staticmethod
    def in1d(values: ArrayLike, among: ArrayLike, **options: Any) -> NDArray[np.bool_]:
        return np.isin(np.ravel(values), among, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


@contextmanager
def old_numpy(module: str) -> Iterator[ModuleType]:
    """Yield an installed module, which alone sees the names of an older numpy as its ``np``."""
    found = importlib.import_module(module)
    with patch.object(found, "np", _OldNumPy()):
        yield found
