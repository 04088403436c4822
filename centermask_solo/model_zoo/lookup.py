"""The config of the model that a weight file belongs to."""

from __future__ import annotations

import os
from collections.abc import Sequence

from detectron2.config import CfgNode

from ..checkpoint.files import without_query
from ..checkpoint.weight_file import WeightFile, read_weight_file
from ..config import AUTO_NUMBER, check_pairs, default_config, load_config, merge_config, value_of
from ..modeling.systems import find_system
from ..runtime.formats import format_of_file
from ..utils.errors import ConfigError, WeightsError
from .conversion import CONFIG_OPTION, make_config
from .verbs import get_config_file
from .weights import PREFIX


def find_config(weights: str) -> str | CfgNode:
    """Return what :func:`~centermask_solo.config.merge_config` needs to build the model of a weight file.

    It is the path of the model zoo's config if the weights are named as a model of it, the options of the config inside
    the file, the path of the config file that training wrote next to its checkpoints, or the options of the config of
    this package that the weights belong to, with their number of classes and images.

    Raises:
        ConfigError: There is none.
        WeightsError: The file is missing or cannot be read, or several configs fit that predict differently.
    """
    if weights.startswith(PREFIX):
        return get_config_file(weights.removeprefix(PREFIX))
    path = os.path.join(os.path.dirname(weights), "config.yaml")
    if os.path.isfile(path) and not os.path.isfile(weights):
        return path  # that the weights are missing is said when they are loaded
    file = _read(weights)
    if file.config is not None:
        return load_config(file.config)
    if os.path.isfile(path):
        return path
    if file.system is None:
        raise ConfigError(
            f"there is no config in {weights} and no {path}: name the config of these weights with {CONFIG_OPTION}; "
            f"`centermask-solo weights inspect {weights}` shows which fits"
        )
    cfg = make_config(file, file.system, "")[0]
    del cfg.MODEL["DEVICE"]  # that of this machine is set already, or chosen by the user
    return cfg


def load_cfg(weights: str, config_file: str = "", opts: Sequence[str] = ()) -> CfgNode:
    """Return the config of weights, with ``MODEL.WEIGHTS``; a number of classes that is "auto" becomes theirs.

    Args:
        weights: Path or URL of a weight file, or "centermask_solo://" and the name of a config.
        config_file: Config of the weights; "" for that of :func:`find_config`.
        opts: Config options to override, keys and values in turn.

    Raises:
        ConfigError: There is no config, or an option is wrong.
        WeightsError: As for :func:`find_config`, or the file is an exported model.
    """
    if format_of_file(without_query(weights)) is not None:
        raise WeightsError(f"{weights} is an exported model: give the weights that it was exported from")
    check_pairs(opts)
    cfg = default_config()
    merge_config(cfg, config_file or find_config(weights), ["MODEL.WEIGHTS", weights, *opts])
    cfg.MODEL.WEIGHTS = weights
    system = find_system(cfg.MODEL.META_ARCHITECTURE)
    if system is not None and value_of(cfg, system.num_classes_key) == AUTO_NUMBER:
        number = _read(weights).num_classes
        if number is not None:
            cfg.merge_from_list([system.num_classes_key, number])
    return cfg


def _read(weights: str) -> WeightFile:
    """Return the content of a weight file, mapped into memory."""
    return read_weight_file(weights, known_only=False, mapped=True)
