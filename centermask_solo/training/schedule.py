"""Batch size, learning rate and schedule for a number of processes."""

from __future__ import annotations

import logging
from fractions import Fraction

from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer

logger = logging.getLogger(__name__)


def scale_to_processes(cfg: CfgNode, num_processes: int) -> CfgNode:
    """Return the config for this number of processes, and log by which rule it was scaled, in one line.

    With P = ``num_processes`` / ``SOLVER.REFERENCE_WORLD_SIZE``, batch size and learning rate are multiplied by P;
    iterations, steps, warm-up and the periods of checkpoints and evaluation are divided by P. That is Detectron2's rule
    (``DefaultTrainer.auto_scale_workers``). A reference of 0 leaves the config as it is.
    """
    reference, processes = cfg.SOLVER.REFERENCE_WORLD_SIZE, f"{num_processes} process{'es' * (num_processes > 1)}"
    if not reference:
        rule = "batch size, learning rate and schedule are the config's for any number of processes"
    elif reference == num_processes:
        rule = "batch size, learning rate and schedule are the config's"
    else:
        up, down = Fraction(num_processes, reference), Fraction(reference, num_processes)
        rule = f"batch size and learning rate times {up}; iterations, steps, warm-up and periods times {down}"
    cfg = DefaultTrainer.auto_scale_workers(cfg, num_processes)
    solver = cfg.SOLVER
    logger.info(
        f"{processes}, SOLVER.REFERENCE_WORLD_SIZE {reference}: {rule}: {solver.IMS_PER_BATCH} images per iteration, "
        f"learning rate {solver.BASE_LR:g}, {solver.MAX_ITER} iterations"
    )
    if solver.WARMUP_ITERS >= solver.MAX_ITER:
        logger.warning(
            f"SOLVER.WARMUP_ITERS {solver.WARMUP_ITERS} is not less than SOLVER.MAX_ITER {solver.MAX_ITER}: the "
            f"learning rate never reaches SOLVER.BASE_LR {solver.BASE_LR:g}; set fewer warm-up iterations"
        )
    return cfg
