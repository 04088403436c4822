"""What ``train_net.py`` does once the config is set up."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import HookBase

from .evaluate import evaluate
from .summary import training_summary
from .trainer import Trainer

logger = logging.getLogger(__name__)


def run_training(
    cfg: CfgNode, *, resume: bool = False, eval_only: bool = False, hooks: Sequence[HookBase] = ()
) -> dict[str, Any]:
    """Train and evaluate, or only evaluate, the model of a config; return the results of the last evaluation.

    Args:
        cfg: Config from ``setup_cfg``.
        resume: Continue from (or evaluate) the last checkpoint in ``OUTPUT_DIR``.
        eval_only: Evaluate ``MODEL.WEIGHTS`` without training.
        hooks: Further hooks of the trainer.
    """
    if eval_only:
        return evaluate(cfg, resume=resume)
    trainer = Trainer(cfg, hooks)
    trainer.resume_or_load(resume=resume)
    logger.info(training_summary(trainer))
    return trainer.train()
