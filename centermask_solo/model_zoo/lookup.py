"""The config of the model that a weight file belongs to."""

from __future__ import annotations

import os

from detectron2.config import CfgNode

from ..checkpoint.weight_file import read_weight_file
from ..config import load_config
from ..utils.errors import ConfigError, WeightsError
from .verbs import get_config_file
from .weights import PREFIX


def find_config(weights: str) -> str | CfgNode:
    """Return what :func:`~centermask_solo.config.merge_config` needs to build the model of a checkpoint.

    It is the path of the model zoo's config if the weights are a model of it, the options of the config inside the
    file, or the path of the config file that training wrote next to its checkpoints.

    Raises:
        ConfigError: There is none.
        WeightsError: The file is missing or cannot be read.
    """
    if weights.startswith(PREFIX):
        return get_config_file(weights.removeprefix(PREFIX))
    inside = read_weight_file(weights, known_only=False).config if os.path.isfile(weights) else None
    if inside is not None:
        return load_config(inside)
    path = os.path.join(os.path.dirname(weights), "config.yaml")
    if not os.path.isfile(path):
        if "://" not in weights and not os.path.isfile(weights):
            raise WeightsError(f"there is no file {weights}; correct the path of the weights")
        raise ConfigError(
            f"there is no config in {weights} and no {path}: name the config of these weights with --config-file; "
            f"`centermask-solo weights inspect {weights}` shows which fits"
        )
    return path
