"""Modules that are found in their folder instead of being listed, and packages that only some datasets need."""

from __future__ import annotations

import importlib.util
import pkgutil
from types import ModuleType

from .errors import UserError

# lvis requires opencv-python, which would overwrite opencv-python-headless; everything else that it needs is installed
_COMMANDS = {"lvis": "pip install lvis --no-deps"}


def import_modules(package: str) -> dict[str, ModuleType]:
    """Import every module and package directly in a package, and return them by their last names, in that order."""
    names = sorted(info.name for info in pkgutil.iter_modules(importlib.import_module(package).__path__))
    return {name: importlib.import_module(f"{package}.{name}") for name in names}


def require(package: str, dataset_name: str) -> None:
    """Raise UserError, with the command that installs it, unless a package that a dataset needs is installed."""
    if importlib.util.find_spec(package) is None:
        raise missing_package(package, dataset_name)


def missing_package(package: str, dataset_name: str) -> UserError:
    """Return the error for a package that a dataset needs and that is not installed."""
    command = _COMMANDS.get(package, f"pip install {package}")
    return UserError(f"the dataset '{dataset_name}' needs the package {package}: run '{command}'")
