"""Register everything that Detectron2 looks up by name; importing this module is enough."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from types import ModuleType

from .data import datasets  # noqa: F401  (these modules register what they define)
from .model_zoo import weights  # noqa: F401
from .modeling import models  # noqa: F401
from .training import optimizer  # noqa: F401


def register() -> None:
    """Register the models, the generated datasets and ``centermask_solo://`` weights with Detectron2.

    Every public name of the package does so when it is loaded; call this where only names below ``centermask_solo`` are
    imported. Further calls are no-ops.
    """


def _import_detectron2_model_zoo() -> None:
    """Import ``detectron2.model_zoo`` where ``pkg_resources``, which setuptools 82 removed, is missing.

    It uses a single function of that module, which a stand-in provides to it alone.
    """
    if "detectron2.model_zoo" in sys.modules or _can_be_found("pkg_resources"):
        return
    stand_in = ModuleType("pkg_resources")
    stand_in.resource_filename = _resource_filename  # type: ignore[attr-defined]
    sys.modules["pkg_resources"] = stand_in
    try:
        importlib.import_module("detectron2.model_zoo")
    finally:
        del sys.modules["pkg_resources"]


def _can_be_found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _resource_filename(package: str, name: str) -> str:
    """Return the path of a file inside an imported package."""
    return os.path.join(os.path.dirname(str(sys.modules[package].__file__)), name)


_import_detectron2_model_zoo()
