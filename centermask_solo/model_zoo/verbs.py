"""The functions of Detectron2's model zoo, for the configs and weights of this package."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from ..checkpoint import Checkpointer
from ..config import default_config, find_config_file, merge_config
from ..modeling import models  # noqa: F401  (registers the models)
from ..modeling.parts import check_device
from ..utils.errors import WeightsError
from .models import find_model
from .weights import PREFIX, weights_state


def get_config_file(config_path: str) -> str:
    """Return the path of a config file given by its name below ``configs``, such as "SOLOv2/solov2_R_50_3x.yaml".

    Raises:
        ConfigError: There is none; the message names the nearest one.
    """
    return find_config_file(config_path)


def get_checkpoint_url(config_path: str) -> str:
    """Return the URL of the published weights of a config. It may be dead: "centermask_solo://" + config is safer.

    Raises:
        ConfigError: It is not a published model.
        WeightsError: The address of its weights is unknown.
    """
    model = find_model(config_path)
    if not model.addresses:
        raise WeightsError(f"no address of weights of {config_path} is known ({weights_state(model)})")
    return model.addresses[0]


def get_config(config_path: str, trained: bool = False) -> CfgNode:
    """Return the config of that name, with this package's options.

    Args:
        config_path: Name of a config below ``configs``.
        trained: Set ``MODEL.WEIGHTS`` to the published weights instead of those that training starts from.

    Raises:
        ConfigError: There is no such config or, if ``trained``, no such published model.
    """
    cfg = default_config()
    merge_config(cfg, config_path, [])
    if trained:
        cfg.MODEL.WEIGHTS = PREFIX + find_model(config_path).config
    return cfg


def get(config_path: str, trained: bool = False, device: str | None = None) -> nn.Module:
    """Return the model of a config, in training mode, with its weights.

    Args:
        config_path: Name of a config below ``configs``.
        trained: Load the published weights, which fill every parameter, instead of those that training starts from.
        device: Device of the model; by default the config's.

    Raises:
        ConfigError: There is no such config or, if ``trained``, no such published model, or the
            device cannot be used.
        WeightsError: The weights are missing or do not fit.
    """
    cfg = get_config(config_path, trained)
    cfg.MODEL.DEVICE = device or cfg.MODEL.DEVICE
    check_device(cfg.MODEL.DEVICE)
    model = build_model(cfg)
    Checkpointer(model, complete=trained).load(cfg.MODEL.WEIGHTS)
    return model
