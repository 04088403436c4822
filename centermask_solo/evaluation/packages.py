"""Packages that only some datasets need for evaluation."""

from __future__ import annotations

import importlib.util

from ..utils.errors import UserError

# lvis requires opencv-python, which would overwrite opencv-python-headless; everything else that it needs is installed
INSTALL = {"lvis": "pip install lvis --no-deps", "cityscapesscripts": "pip install cityscapesscripts"}


def require(package: str, dataset_name: str) -> None:
    """Raise UserError, with the command that installs it, unless a package is installed."""
    if importlib.util.find_spec(package) is None:
        raise UserError(
            f"the dataset '{dataset_name}' needs the package {package} for evaluation: run '{INSTALL[package]}'"
        )
