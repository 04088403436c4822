"""Evaluation of trained weights."""

from __future__ import annotations

import logging
from typing import Any

from detectron2.config import CfgNode
from detectron2.evaluation import verify_results
from detectron2.utils import comm

from ..checkpoint import Checkpointer, read_weight_file
from ..evaluation.by_name import order_in_dataset, set_class_names
from ..modeling.engine import prepare_as_configured
from ..modeling.tta import with_augmentation
from ..utils.errors import ConfigError
from .summary import evaluation_summary
from .trainer import Trainer

logger = logging.getLogger(__name__)


def evaluate(cfg: CfgNode, *, resume: bool = False, trainer: type[Trainer] = Trainer) -> dict[str, Any]:
    """Return the metrics of ``DATASETS.TEST``.

    ``TEST.AUG.ENABLED`` evaluates with test-time augmentation: the sizes and flips of ``TEST.AUG``.

    Classes are matched by the names that the weights hold, in whatever order a dataset has them.

    Args:
        cfg: Config from ``setup_cfg``; ``MODEL.WEIGHTS`` is evaluated.
        resume: Evaluate the last checkpoint in ``OUTPUT_DIR`` instead, if there is one.
        trainer: Class that builds model, data loader and evaluator.

    Raises:
        ConfigError: There are no weights to evaluate.
        DataError: A dataset has other classes than the weights, by name.
        WeightsError: They do not fill the model.
    """
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
    prepare_as_configured(model, cfg, channels_last=False)  # build_model has set the memory format
    results = trainer.test(cfg, with_augmentation(cfg, model) if cfg.TEST.AUG.ENABLED else model)
    if comm.is_main_process():
        verify_results(cfg, results)
    return results
