"""Packages that only some datasets need."""

from __future__ import annotations

import importlib.util

from .errors import UserError

# lvis requires opencv-python, which would overwrite opencv-python-headless; everything else that it needs is installed
_COMMANDS = {"lvis": "pip install lvis --no-deps"}


def require(package: str, dataset_name: str) -> None:
    """Raise UserError, with the command that installs it, unless a package that a dataset needs is installed."""
    if importlib.util.find_spec(package) is None:
        raise missing_package(package, dataset_name)


def missing_package(package: str, dataset_name: str) -> UserError:
    """Return the error for a package that a dataset needs and that is not installed."""
    command = _COMMANDS.get(package, f"pip install {package}")
    return UserError(f"the dataset '{dataset_name}' needs the package {package}: run '{command}'")
