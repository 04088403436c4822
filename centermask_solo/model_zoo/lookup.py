"""From a weight file to the config of its model."""

from __future__ import annotations

import os

from detectron2.config import CfgNode

from ..checkpoint import read_weights
from ..checkpoint.sources.own import recorded_config
from ..config import load_config
from .verbs import get_config_file
from .weights import PREFIX


def find_config(weights: str) -> str | CfgNode:
    """What :func:`~centermask_solo.config.merge_config` needs to build the model of a checkpoint.

    That is the model zoo's config, if the weights are a model of it; the options of the config inside the file; or the
    path of the config file that training wrote beside its checkpoints.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file cannot be read.
    """
    if weights.startswith(PREFIX):
        return get_config_file(weights.removeprefix(PREFIX))
    inside = recorded_config(read_weights(weights).metadata) if os.path.isfile(weights) else None
    if inside is not None:
        return load_config(inside)
    path = os.path.join(os.path.dirname(weights), "config.yaml")
    if not os.path.isfile(path):
        if "://" not in weights and not os.path.isfile(weights):
            raise FileNotFoundError(f"there is no file {weights}; correct the path of the weights")
        raise FileNotFoundError(
            f"there is no config in {weights} and no {path}: name the config of these weights with --config-file; "
            f"`centermask-solo weights inspect {weights}` tells which fits"
        )
    return path
