"""From a config file and overrides to a config that can run, or a one-line message that says why it cannot."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Collection, Mapping, Sequence

from detectron2.config import CfgNode, get_cfg
from detectron2.data import MetadataCatalog

from .. import add_centermask_solo_config  # from the package, which registers the models, too
from ..checkpoint.files import check_weights_file
from ..checkpoint.folder import has_checkpoints
from ..config import (
    AUTO,
    AUTO_NUMBER,
    default_config,
    find_config_file,
    given_options,
    load_config,
    merge_config,
    value_of,
)
from ..data.datasets import check_registered, register_datasets
from ..data.proposals import check_proposals
from ..data.validation.checks import check_datasets, check_num_classes
from ..evaluation import check_evaluator, find_backend
from ..modeling.option_scope import check_options_are_read
from ..modeling.parts import check_device, check_parts
from ..modeling.systems import find_system
from ..runtime.formats import format_of_file
from ..runtime.session import open_file
from ..utils.class_names import class_order, list_names
from ..utils.errors import ConfigError, DataError
from ..utils.text import name_some, printable
from .auto import configure_for_data
from .logs import Screen, set_up_run, start_log
from .output_folder import open_output_folder
from .own_data import use_own_data

logger = logging.getLogger(__name__)


def setup_cfg(args: argparse.Namespace, *, screen: Screen = "summary", config: CfgNode | None = None) -> CfgNode:
    """Return the config of a command line, checked and frozen; set up the log and the random seeds.

    Args:
        args: ``config_file``, ``opts``, ``resume`` and ``eval_only`` of Detectron2's ``default_argument_parser``. It
            may have ``overwrite``, which replaces the training in ``OUTPUT_DIR``, ``auto``, which sets options that fit
            the data, and the flags of :func:`~centermask_solo.training.own_data.use_own_data`.
        screen: What of the log is also printed, not only written to ``OUTPUT_DIR``.
        config: Options instead of those of a config file, which ``args`` then lacks.

    Raises:
        UserError: Something in it is wrong.
    """
    memory = start_log(screen)  # first, because what follows may warn
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    merge_config(cfg, args.config_file or config or _exported_config(args), args.opts)
    use_own_data(cfg, args)
    register_datasets(cfg)
    given = given_options(args.config_file, args.opts)
    note = check_config(cfg, not args.eval_only, given)
    if note:
        logger.info(note)
    if getattr(args, "auto", False) and not args.eval_only:
        configure_for_data(cfg, given)
    resumes = args.resume and has_checkpoints(cfg.OUTPUT_DIR)
    if cfg.MODEL.WEIGHTS and not resumes:
        check_weights_file(cfg.MODEL.WEIGHTS, "MODEL.WEIGHTS", required=args.eval_only)
    if printable(cfg.OUTPUT_DIR) != cfg.OUTPUT_DIR:  # which TensorBoard and PyTorch cannot write to
        raise ConfigError(f"OUTPUT_DIR {printable(cfg.OUTPUT_DIR)} is not UTF-8: choose another folder")
    cfg.freeze()
    open_output_folder(cfg, args)
    if args.config_file:  # Detectron2 reads it once more, but does not know the names in configs
        args = argparse.Namespace(**{**vars(args), "config_file": find_config_file(args.config_file)})
    set_up_run(cfg, args, memory)
    return cfg


def device_of(args: argparse.Namespace) -> str:
    """Return ``MODEL.DEVICE`` of the config of a command line; raise UserError if it cannot be read."""
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    merge_config(cfg, args.config_file or _exported_config(args), args.opts)
    return str(cfg.MODEL.DEVICE)


def _exported_config(args: argparse.Namespace) -> CfgNode | str:
    """Return the config inside the exported file that is to be evaluated; "" for other weights.

    Raises:
        UserError: The file cannot be opened.
    """
    options = dict(zip(args.opts[::2], args.opts[1::2], strict=False))
    path = options.get("MODEL.WEIGHTS", "")
    if not args.eval_only or format_of_file(path) is None:
        return ""
    _, metadata = open_file(path)
    return load_config(metadata.config)


def check_config(cfg: CfgNode, for_training: bool, given: Collection[str] | None = None) -> str:
    """Check that device, model, datasets and classes fit together, and fill in the number of classes.

    Args:
        cfg: Config whose datasets are registered. Its number of classes becomes that of the data if it is "auto", or is
            not the user's own.
        for_training: Whether it is to be trained, not only evaluated.
        given: Options that the user has set; None for all.

    Returns:
        What the number of classes became; "" if it stays.

    Raises:
        UserError: They do not fit, as far as can be seen at once.
    """
    check_device(cfg.MODEL.DEVICE)
    check_parts(cfg)
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
    find_backend(cfg.TEST.EVAL_BACKEND)
    for name in cfg.DATASETS.TEST:
        check_evaluator(name)
    system = find_system(cfg.MODEL.META_ARCHITECTURE)
    semantic = system is not None and "MODEL.SEM_SEG_HEAD" in (system.reads or ())
    if semantic or cfg.MODEL.META_ARCHITECTURE == "SemanticSegmentor":  # Detectron2's, which has no record
        check_stuff_classes(names, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES)
    key = system.num_classes_key if system else ""
    number = value_of(cfg, key) if key else None
    auto = number == AUTO_NUMBER or (given is not None and key not in given)
    only_test = set(cfg.DATASETS.TEST) - set(cfg.DATASETS.TRAIN)
    expected = None if auto else number
    classes = check_datasets(names, expected, key, cfg.MODEL.MASK_ON, cfg.INPUT.MAX_IMAGE_PIXELS, only_test)
    note = _set_num_classes(cfg, key, classes) if key and auto else ""
    check_options_are_read(cfg, default_config())
    check_same_classes(classes, cfg.DATASETS.TRAIN)
    check_proposals(cfg, for_training)
    return note


def _set_num_classes(cfg: CfgNode, key: str, classes: Mapping[str, Sequence[str] | None]) -> str:
    """Set the number of classes to that of the data; return a note for the log if it changes.

    Raises:
        ConfigError: The datasets have different numbers, or none is known and the config has none.
    """
    known = {name: names for name, names in classes.items() if names is not None}
    before = value_of(cfg, key)
    if not known and before == AUTO_NUMBER:
        raise ConfigError(f"{key} is {AUTO}, but {', '.join(classes)} do not state their classes: set {key}")
    first = next(iter(known), "")
    for name, names in known.items():
        check_num_classes(name, names, len(known[first]), key, origin=f"as in '{first}'")
    number = len(known[first]) if known else before
    cfg.merge_from_list([key, number])
    return "" if number == before else f"{key} is {number}, the number of classes of '{first}'."


def check_stuff_classes(names: Sequence[str], num_classes: int) -> None:
    """Raise ConfigError if a dataset has another number of ``stuff_classes`` than the semantic head of the model."""
    for name in names:
        classes = MetadataCatalog.get(name).get("stuff_classes")
        if classes is not None and len(classes) != num_classes:
            raise ConfigError(
                f"MODEL.SEM_SEG_HEAD.NUM_CLASSES is {num_classes}, but the dataset '{name}' has {len(classes)} "
                f"stuff_classes ({name_some(classes, 3)}): set MODEL.SEM_SEG_HEAD.NUM_CLASSES {len(classes)}"
            )


def check_same_classes(classes: Mapping[str, Sequence[str] | None], train: Sequence[str]) -> None:
    """Raise DataError unless all datasets have the classes of the first, and training datasets in the same order.

    Args:
        classes: Class names of each dataset, in the model's order; None where they are unknown.
        train: Names of the training datasets.
    """
    known = [(name, names) for name, names in classes.items() if names is not None]
    for name, names in known[1:]:
        first, first_names = known[0]
        if name in train and list(names) != list(first_names):
            fix = "give them the same classes in the same order"
        elif class_order(first_names, names) is None:
            fix = "give them the same names, in any order"
        else:
            continue
        raise DataError(
            f"the datasets '{first}' and '{name}' have different classes ({list_names(first_names)}; "
            f"{list_names(names)}): {fix}"
        )
