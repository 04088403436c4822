"""Register everything that Detectron2 looks up by name; importing this module is enough.

It also holds all that this package changes of Detectron2 itself: an import that fails, and the message of an error.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from types import ModuleType

from detectron2.solver.build import GradientClipType

from .data import datasets  # noqa: F401  (these modules register what they define)
from .model_zoo import hub_files, timm_weights, weights  # noqa: F401
from .modeling import models  # noqa: F401
from .utils.errors import ConfigError


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


def _refuse_full_model(cls: type[GradientClipType], value: object) -> None:
    """Raise ConfigError, which is a ValueError as before, for the kind of gradient clipping that only Trainer has."""
    if value == "full_model":
        raise ConfigError(
            'Detectron2\'s DefaultTrainer does not know SOLVER.CLIP_GRADIENTS.CLIP_TYPE "full_model", nor other '
            "options of centermask_solo such as SOLVER.OPTIMIZER and INPUT.AUGMENTATION: use centermask_solo.Trainer"
        )


_import_detectron2_model_zoo()
# DefaultTrainer looks the kind up in this enum before it calls anything that a package can register, and would end with
# "'full_model' is not a valid GradientClipType". This hook of enums explains that error; members and lookups stay.
GradientClipType._missing_ = classmethod(_refuse_full_model)
