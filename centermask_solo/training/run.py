"""What ``train_net.py`` does once the config is set up."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm

from ..checkpoint.folder import has_checkpoints
from .batch_size import set_batch_size
from .evaluate import evaluate
from .output_folder import files_of_run, remove_run
from .report import write_report
from .summary import training_summary
from .trainer import Trainer

logger = logging.getLogger(__name__)


def run_training(
    cfg: CfgNode,
    *,
    resume: bool = False,
    eval_only: bool = False,
    overwrite: bool = False,
    batch_size: str = "",
    hooks: Sequence[HookBase] = (),
) -> dict[str, Any]:
    """Train and evaluate, or only evaluate, the model of a config; return the results of the last evaluation.

    Args:
        cfg: Config from ``setup_cfg``.
        resume: Continue from (or evaluate) the last checkpoint in ``OUTPUT_DIR``.
        eval_only: Evaluate ``MODEL.WEIGHTS`` without training.
        overwrite: Remove what an earlier training has left in ``OUTPUT_DIR``, as soon as the new one can begin.
        batch_size: Images of an iteration, or "auto" for as many as fit in memory, instead of the config's; learning
            rate and schedule follow.
        hooks: Further hooks of the trainer.
    """
    if eval_only:
        return evaluate(cfg, resume=resume)
    earlier = files_of_run(cfg.OUTPUT_DIR) if overwrite else []
    trainer = Trainer(set_batch_size(cfg, batch_size, resume=bool(resume and has_checkpoints(cfg.OUTPUT_DIR))), hooks)
    trainer.resume_or_load(resume=resume)
    if comm.is_main_process():
        remove_run(earlier)
    if resume and not trainer.start_iter:
        logger.info(f"--resume: {cfg.OUTPUT_DIR} has no checkpoint, so the training begins with iteration 0")
    logger.info(training_summary(trainer))
    results = trainer.train()
    if cfg.TEST.REPORT and comm.is_main_process():
        logger.info(f"Report of the training: {write_report(trainer, results)}")
    return results
