"""Evaluation of trained weights."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.evaluation import verify_results
from detectron2.utils import comm

from ..checkpoint import Checkpointer, read_weight_file
from ..evaluation.by_name import order_in_dataset, set_class_names
from ..modeling.engine import prepare_as_configured
from ..modeling.option_scope import with_max_detections
from ..modeling.tta import with_augmentation
from ..runtime.detectron2_model import ExportedModel
from ..runtime.formats import format_of_file
from ..runtime.predictor import ExportedPredictor
from ..utils.errors import ConfigError
from .summary import evaluation_summary
from .trainer import Trainer

logger = logging.getLogger(__name__)


def evaluate(
    cfg: CfgNode,
    *,
    resume: bool = False,
    trainer: type[Trainer] = Trainer,
    threads: int | None = None,
    providers: Sequence[Any] = (),
) -> dict[str, Any]:
    """Return the metrics of ``DATASETS.TEST``.

    ``TEST.AUG.ENABLED`` evaluates with test-time augmentation: the sizes and flips of ``TEST.AUG``.

    Classes are matched by the names that the weights hold, in whatever order a dataset has them.

    Args:
        cfg: Config from ``setup_cfg``; ``MODEL.WEIGHTS``, which may be an exported file, is evaluated.
        resume: Evaluate the last checkpoint in ``OUTPUT_DIR`` instead, if there is one.
        trainer: Class that builds model, data loader and evaluator.
        threads: CPU threads of an exported file; see :class:`ExportedPredictor`.
        providers: What computes an exported file; see there.

    Raises:
        ConfigError: There are no weights to evaluate.
        DataError: A dataset has other classes than the weights, by name.
        WeightsError: They do not fill the model.
    """
    if format_of_file(cfg.MODEL.WEIGHTS) is not None and not resume:
        exported = _open_exported(cfg, threads, providers)
        limit = exported.predictor.metadata.max_detections
        return _test(with_max_detections(cfg, limit), exported, trainer)
    model = trainer.build_model(cfg)
    checkpointer = Checkpointer(model, save_dir=cfg.OUTPUT_DIR, complete=True)
    path = (checkpointer.get_checkpoint_file() if resume else "") or cfg.MODEL.WEIGHTS
    if not path:
        raise ConfigError(
            "there is nothing to evaluate: give MODEL.WEIGHTS, or --resume and the OUTPUT_DIR of a training"
        )
    names = read_weight_file(path, known_only=False, mapped=True).thing_classes
    for dataset_name in cfg.DATASETS.TEST:  # first, because names say more than their number, which loading checks
        order_in_dataset(names, dataset_name)
    checkpointer.load(path)
    logger.info(evaluation_summary(cfg, model))
    set_class_names(model, names)
    prepare_as_configured(model, cfg)
    return _test(cfg, with_augmentation(cfg, model) if cfg.TEST.AUG.ENABLED else model, trainer)


def _open_exported(cfg: CfgNode, threads: int | None, providers: Sequence[Any]) -> ExportedModel:
    """Return the model of an exported file; the options of the config that are not about data do not matter.

    Raises:
        ConfigError: Test-time augmentation is asked for, or a size that the file cannot take.
        DataError: A dataset has other classes than the file, by name.
        WeightsError: The file is missing, damaged, or was made by another program or version.
    """
    path = cfg.MODEL.WEIGHTS
    if cfg.TEST.AUG.ENABLED:
        raise ConfigError(f"{path} is an exported model without test-time augmentation: set TEST.AUG.ENABLED False")
    model = ExportedModel(ExportedPredictor(path, threads=threads, providers=providers))
    rule = model.predictor.metadata.input
    if rule.size is not None:
        raise ConfigError(f"{path} takes images of {rule.size[0]}x{rule.size[1]} pixels only: export it without --size")
    given = (cfg.INPUT.FORMAT, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
    if given != (rule.channel_order, rule.resize.short_edge, rule.resize.max_long_edge):
        raise ConfigError(
            f"{path} takes other images than the config gives: set INPUT.FORMAT {rule.channel_order} "
            f"INPUT.MIN_SIZE_TEST {rule.resize.short_edge} INPUT.MAX_SIZE_TEST {rule.resize.max_long_edge}, or leave "
            "out the config"
        )
    for dataset_name in cfg.DATASETS.TEST:
        order_in_dataset(model.thing_classes, dataset_name)
    logger.info(f"data        {', '.join(cfg.DATASETS.TEST)}\nmodel       {path}")
    return model


def _test(cfg: CfgNode, model: Any, trainer: type[Trainer]) -> dict[str, Any]:
    results = trainer.test(cfg, model)
    if comm.is_main_process():
        verify_results(cfg, results)
    return results
