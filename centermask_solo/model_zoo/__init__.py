"""The published models: their configs, figures and weights, with the functions of Detectron2's model zoo.

``MODEL.WEIGHTS`` "centermask_solo://SOLOv2/solov2_R_50_3x.yaml" stands for the published weights of that config, once
:mod:`.weights` has been imported.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .models import Model, Release, find_model, list_models

if TYPE_CHECKING:
    from .lookup import find_config
    from .verbs import get, get_checkpoint_url, get_config, get_config_file
    from .weights import FOLDER_VARIABLE, PREFIX, find_weights, weights_state

__all__ = [
    "FOLDER_VARIABLE",
    "PREFIX",
    "Model",
    "Release",
    "find_config",
    "find_model",
    "find_weights",
    "get",
    "get_checkpoint_url",
    "get_config",
    "get_config_file",
    "list_models",
    "weights_state",
]
# What needs PyTorch or Detectron2 is imported when it is used.
_MODULES = {
    "FOLDER_VARIABLE": "weights",
    "PREFIX": "weights",
    "find_config": "lookup",
    "find_weights": "weights",
    "get": "verbs",
    "get_checkpoint_url": "verbs",
    "get_config": "verbs",
    "get_config_file": "verbs",
    "weights_state": "weights",
}


def __getattr__(name: str) -> Any:
    """Return a public name from the module that defines it."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
