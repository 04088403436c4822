"""The verbs of Detectron2's model zoo."""

from __future__ import annotations

from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from torch import nn

from ..checkpoint import Checkpointer
from ..config import add_centermask_solo_config, find_config_file
from .models import find_model
from .weights import PREFIX, weights_state


def get_config_file(config_path: str) -> str:
    """The path of a config file named below ``configs``, such as "SOLOv2/solov2_R_50_3x.yaml".

    Raises:
        FileNotFoundError: there is none; the sentence names the nearest one.
    """
    return find_config_file(config_path)


def get_checkpoint_url(config_path: str) -> str:
    """The address of the published weights of a config. It may be dead: "centermask_solo://" + config is safer.

    Raises:
        FileNotFoundError: it is not a published model, or no address of its weights is known.
    """
    model = find_model(config_path)
    if not model.addresses:
        raise FileNotFoundError(f"no address of weights of {config_path} is known ({weights_state(model)})")
    return model.addresses[0]


def get_config(config_path: str, trained: bool = False) -> CfgNode:
    """The config of that name, with this package's options.

    Args:
        config_path: a name below ``configs``.
        trained: ``MODEL.WEIGHTS`` are the published weights, not those that training starts from.

    Raises:
        FileNotFoundError: there is no such config or, if ``trained``, no such published model.
    """
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.merge_from_file(get_config_file(config_path))
    if trained:
        cfg.MODEL.WEIGHTS = PREFIX + find_model(config_path).config
    return cfg


def get(config_path: str, trained: bool = False, device: str | None = None) -> nn.Module:
    """The model of a config, in training mode, with its weights.

    Args:
        config_path: a name below ``configs``.
        trained: with the published weights, every parameter filled, not those that training starts from.
        device: instead of the config's.

    Raises:
        ValueError, FileNotFoundError: no such config, or no weights that fit.
    """
    cfg = get_config(config_path, trained)
    cfg.MODEL.DEVICE = device or cfg.MODEL.DEVICE
    model = build_model(cfg)
    Checkpointer(model, complete=trained).load(cfg.MODEL.WEIGHTS)
    return model
