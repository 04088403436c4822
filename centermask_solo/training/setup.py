"""From a config file and overrides to a config that can run, or one sentence that says why it cannot."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Mapping, Sequence

import torch
from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.modeling import META_ARCH_REGISTRY

from ..checkpoint.files import check_weights_file
from ..config import merge_config, value_of
from ..data.datasets import register_datasets
from ..data.proposals import check_proposals
from ..data.validation.checks import check_datasets
from ..modeling.systems import find_system

logger = logging.getLogger(__name__)


def setup_cfg(cfg: CfgNode, args: argparse.Namespace) -> CfgNode:
    """``cfg`` merged with the file and the overrides of the command line, checked and frozen; the log is set up.

    Args:
        cfg: the defaults; changed in place.
        args: of Detectron2's ``default_argument_parser``.

    Raises:
        ValueError, FileNotFoundError: something in it is wrong, in one sentence.
    """
    merge_config(cfg, args.config_file, args.opts)
    register_datasets(cfg)
    check_config(cfg, for_training=not args.eval_only)
    resumes = args.resume and os.path.isfile(os.path.join(cfg.OUTPUT_DIR, "last_checkpoint"))
    if cfg.MODEL.WEIGHTS and not resumes:
        check_weights_file(cfg.MODEL.WEIGHTS)
    cfg.freeze()
    default_setup(cfg, args)
    return cfg


def check_config(cfg: CfgNode, for_training: bool) -> None:
    """Nothing, if device, model, datasets and classes fit together as far as can be seen at once.

    Raises:
        ValueError, FileNotFoundError: they do not, in one sentence.
    """
    if torch.device(cfg.MODEL.DEVICE).type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"MODEL.DEVICE is '{cfg.MODEL.DEVICE}', but no GPU is usable: leave it out, or give 'cpu'")
    if cfg.MODEL.META_ARCHITECTURE not in META_ARCH_REGISTRY:
        known = sorted(name for name, _ in META_ARCH_REGISTRY)
        raise ValueError(f"MODEL.META_ARCHITECTURE '{cfg.MODEL.META_ARCHITECTURE}' is not one of {', '.join(known)}")
    if for_training and not cfg.DATASETS.TRAIN:
        raise ValueError("DATASETS.TRAIN is empty: name the dataset to train on")
    if not for_training and not cfg.DATASETS.TEST:
        raise ValueError("DATASETS.TEST is empty: name the dataset to evaluate on")
    world_size, batch = cfg.SOLVER.REFERENCE_WORLD_SIZE, cfg.SOLVER.IMS_PER_BATCH
    if for_training and world_size and batch % world_size:
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH {batch} is not a multiple of SOLVER.REFERENCE_WORLD_SIZE {world_size}, the number "
            "of processes that the config is meant for: give SOLVER.REFERENCE_WORLD_SIZE 0 to train with the batch, "
            "the rate and the schedule as they are"
        )
    names = (*(cfg.DATASETS.TRAIN if for_training else ()), *cfg.DATASETS.TEST)
    system = find_system(cfg.MODEL.META_ARCHITECTURE)
    key = system.num_classes_key if system else ""
    classes = check_datasets(names, value_of(cfg, key) if key else None, key)
    check_same_classes(classes, cfg.DATASETS.TRAIN)
    check_proposals(cfg, for_training)


def check_same_classes(classes: Mapping[str, Sequence[str] | None], train: Sequence[str]) -> None:
    """Nothing, if the datasets have the same classes; if one of ``train`` differs, it is an error, else a warning.

    Args:
        classes: of each dataset, in the model's order; None where they are unknown.
        train: the datasets of training.
    """
    known = [(name, names) for name, names in classes.items() if names is not None]
    for name, names in known[1:]:
        first, first_names = known[0]
        pair = next(((a, b) for a, b in zip(first_names, names, strict=False) if a != b), None)
        if pair is None:
            continue
        message = f"the datasets '{first}' and '{name}' have different classes, such as '{pair[0]}' and '{pair[1]}'"
        if name in train:
            raise ValueError(message + ": give them the same classes in the same order")
        logger.warning(message)
