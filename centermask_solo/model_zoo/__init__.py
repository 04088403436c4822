"""The published models: their configs, figures and weights, with the functions of Detectron2's model zoo.

``MODEL.WEIGHTS`` "centermask_solo://SOLOv2/solov2_R_50_3x.yaml" stands for the published weights of that config.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .models import Model, Release, find_model, list_models
from .weights import FOLDER_VARIABLE, PREFIX, find_weights, weights_state

if TYPE_CHECKING:
    from .lookup import find_config
    from .verbs import get, get_checkpoint_url, get_config, get_config_file

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
_VERBS = ("get", "get_checkpoint_url", "get_config", "get_config_file")


def __getattr__(name: str) -> Any:
    """Import what builds models when it is used: it takes seconds."""
    if name == "find_config":
        from .lookup import find_config

        return find_config
    if name in _VERBS:
        from . import verbs

        return getattr(verbs, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
