"""Modules that are found in their folder instead of being listed."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType


def import_modules(package: str) -> dict[str, ModuleType]:
    """Import every module and package directly in a package, and return them by their last names, in that order."""
    names = sorted(info.name for info in pkgutil.iter_modules(importlib.import_module(package).__path__))
    return {name: importlib.import_module(f"{package}.{name}") for name in names}
