"""From a config file and overrides to a config that can run, or a one-line message that says why it cannot."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Mapping, Sequence

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY, ROI_HEADS_REGISTRY

from .. import add_centermask_solo_config
from ..checkpoint.files import check_weights_file
from ..config import find_config_file, merge_config, value_of
from ..data.datasets import check_registered, register_datasets
from ..data.proposals import check_proposals
from ..data.validation.checks import check_datasets
from ..evaluation import check_evaluator
from ..modeling.systems import find_system
from ..utils.errors import ConfigError, DataError
from ..utils.files import make_folder
from .logs import Screen, set_up_run, start_log

logger = logging.getLogger(__name__)

REGISTRIES = {
    "MODEL.META_ARCHITECTURE": META_ARCH_REGISTRY,
    "MODEL.BACKBONE.NAME": BACKBONE_REGISTRY,
    "MODEL.ROI_HEADS.NAME": ROI_HEADS_REGISTRY,
}


def setup_cfg(args: argparse.Namespace, *, screen: Screen = "summary") -> CfgNode:
    """Return the config of a command line, checked and frozen; set up the log and the random seeds.

    Args:
        args: ``config_file``, ``opts``, ``resume`` and ``eval_only`` of Detectron2's ``default_argument_parser``.
        screen: What of the log is also printed, not only written to ``OUTPUT_DIR``.

    Raises:
        UserError: Something in it is wrong.
    """
    memory = start_log(screen)  # first, because what follows may warn
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    merge_config(cfg, args.config_file, args.opts)
    register_datasets(cfg)
    check_config(cfg, for_training=not args.eval_only)
    resumes = args.resume and os.path.isfile(os.path.join(cfg.OUTPUT_DIR, "last_checkpoint"))
    if cfg.MODEL.WEIGHTS and not resumes:
        check_weights_file(cfg.MODEL.WEIGHTS, "MODEL.WEIGHTS")
    cfg.freeze()
    make_folder(cfg.OUTPUT_DIR)
    if args.config_file:  # Detectron2 reads it once more, but does not know the names in configs
        args = argparse.Namespace(**{**vars(args), "config_file": find_config_file(args.config_file)})
    set_up_run(cfg, args, memory)
    return cfg


def check_config(cfg: CfgNode, for_training: bool) -> None:
    """Raise UserError unless device, model, datasets and classes fit together as far as can be seen at once."""
    _check_device(cfg.MODEL.DEVICE)
    for option, registry in REGISTRIES.items():
        if value_of(cfg, option) not in registry:
            known = sorted(name for name, _ in registry)
            raise ConfigError(f"{option} '{value_of(cfg, option)}' is not one of {', '.join(known)}")
    if for_training and not cfg.DATASETS.TRAIN:
        raise ConfigError("DATASETS.TRAIN is empty: name the dataset to train on, or give a --config-file that does")
    if not for_training and not cfg.DATASETS.TEST:
        raise ConfigError("DATASETS.TEST is empty: name the dataset to evaluate on, or give a --config-file that does")
    world_size, batch = cfg.SOLVER.REFERENCE_WORLD_SIZE, cfg.SOLVER.IMS_PER_BATCH
    if for_training and world_size and batch % world_size:
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH {batch} is not a multiple of SOLVER.REFERENCE_WORLD_SIZE {world_size}, the number "
            "of processes that the config is meant for: set SOLVER.REFERENCE_WORLD_SIZE 0 to train with the given "
            "batch size, learning rate and schedule"
        )
    names = (*(cfg.DATASETS.TRAIN if for_training else ()), *cfg.DATASETS.TEST)
    for name in names:
        check_registered(name)
    for name in cfg.DATASETS.TEST:
        check_evaluator(name)
    system = find_system(cfg.MODEL.META_ARCHITECTURE)
    key = system.num_classes_key if system else ""
    classes = check_datasets(names, value_of(cfg, key) if key else None, key, masks=cfg.MODEL.MASK_ON)
    check_same_classes(classes, cfg.DATASETS.TRAIN)
    check_proposals(cfg, for_training)


def _check_device(name: str) -> None:
    """Raise ConfigError unless ``name`` is a device that PyTorch can use here."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"MODEL.DEVICE '{name}' is not a device of PyTorch: give 'cuda' or 'cpu'") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"MODEL.DEVICE is '{name}', but no GPU is usable: leave it out, or give 'cpu'")


def check_same_classes(classes: Mapping[str, Sequence[str] | None], train: Sequence[str]) -> None:
    """Raise DataError if a training dataset has other classes than the first dataset; log a warning for test datasets.

    Args:
        classes: Class names of each dataset, in the model's order; None where they are unknown.
        train: Names of the training datasets.
    """
    known = [(name, names) for name, names in classes.items() if names is not None]
    for name, names in known[1:]:
        first, first_names = known[0]
        pair = next(((a, b) for a, b in zip(first_names, names, strict=False) if a != b), None)
        if pair is None:
            continue
        message = f"the datasets '{first}' and '{name}' have different classes, such as '{pair[0]}' and '{pair[1]}'"
        if name in train:
            raise DataError(message + ": give them the same classes in the same order")
        logger.warning(message)
