"""From a config file and overrides to a config that can run, or one sentence that says why it cannot."""

from __future__ import annotations

import argparse
import difflib
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import yaml
from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.modeling import META_ARCH_REGISTRY

from ..checkpoint.files import check_weights_file
from ..data.checks import check_datasets
from ..data.datasets import register_datasets
from ..data.proposals import check_proposals
from ..model_zoo import find_config_file

logger = logging.getLogger(__name__)

# Where each meta-architecture has its number of classes.
NUM_CLASSES_KEYS = {
    "SOLOv2": "MODEL.SOLOV2.NUM_CLASSES",
    "YOLACT": "MODEL.YOLACT.NUM_CLASSES",
    "CenterMask": "MODEL.ROI_HEADS.NUM_CLASSES",
    "GeneralizedRCNN": "MODEL.ROI_HEADS.NUM_CLASSES",
    "PanopticFPN": "MODEL.ROI_HEADS.NUM_CLASSES",
    "RetinaNet": "MODEL.RETINANET.NUM_CLASSES",
}


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


def load_config(text: str) -> CfgNode:
    """The options of a config inside a checkpoint, except for the device, which may be another machine's."""
    config = CfgNode.load_cfg(text)
    config.MODEL.pop("DEVICE", None)
    return config


def merge_config(cfg: CfgNode, config: str | CfgNode, opts: Sequence[str] | None) -> None:
    """Merge a config (its path, or the name of one of this package's, or its options) and KEY VALUE pairs into ``cfg``.

    Raises:
        ValueError, FileNotFoundError: no such file, not YAML, an unknown key or a value of a wrong type.
    """
    opts = list(opts or [])
    if len(opts) % 2:
        raise ValueError(f"the overrides at the end must be pairs KEY VALUE, but {opts[-1]!r} has no value")
    try:
        if isinstance(config, CfgNode):
            cfg.merge_from_other_cfg(config)
        elif config:
            cfg.merge_from_file(find_config_file(config))
        cfg.merge_from_list(opts)
    except (yaml.YAMLError, TypeError, AttributeError) as error:
        name = config if isinstance(config, str) else "what the weights have inside"
        raise ValueError(f"{name} is not a config file: {' '.join(str(error).split())}") from error
    except (KeyError, ValueError, AssertionError) as error:
        raise ValueError(_explain_merge_error(cfg, str(error.args[0] if error.args else error))) from error


def _explain_merge_error(cfg: CfgNode, message: str) -> str:
    """The sentence for what yacs says on a wrong key or value."""
    unknown = re.match(r"Non-existent (?:config )?key: (\S+)", message)
    if unknown:
        key = unknown.group(1)
        near = difflib.get_close_matches(key, list(_keys(cfg)), n=1, cutoff=0.0)[0]
        return f"there is no config key {key}; the nearest one is {near}"
    pattern = (
        r"Type mismatch \(<class '(.*?)'> vs\. <class '(.*?)'>\) with values \((.*) vs\. (.*)\) for config key: (\S+)"
    )
    wrong_type = re.match(pattern, message)
    if wrong_type:
        old_type, new_type, old, new, key = wrong_type.groups()
        return f"the config key {key} takes a {old_type} such as {old}, but was given {new} ({new_type})"
    return " ".join(message.split())


def _keys(node: CfgNode, prefix: str = "") -> Iterator[str]:
    for name, value in node.items():
        yield prefix + name
        if isinstance(value, CfgNode):
            yield from _keys(value, f"{prefix}{name}.")


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
    key = NUM_CLASSES_KEYS.get(cfg.MODEL.META_ARCHITECTURE)
    classes = check_datasets(names, value_of(cfg, key) if key else None, key or "")
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


def value_of(cfg: CfgNode, key: str) -> Any:
    """The value of an option, such as "MODEL.DEVICE"."""
    node: Any = cfg
    for part in key.split("."):
        node = node[part]
    return node
