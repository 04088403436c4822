"""Batch size, learning rate and schedule for a number of processes."""

from __future__ import annotations

import logging
from fractions import Fraction

from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer

from ..utils.text import counted

logger = logging.getLogger(__name__)

WARM_UP_SHARE = 0.1  # of a training in epochs
CHECKPOINTS = 5  # of a training in epochs that would have none, as its config is for longer ones


def scale_to_processes(cfg: CfgNode, num_processes: int) -> CfgNode:
    """Return the config for this number of processes, and log by which rule it was scaled, in one line.

    With P = ``num_processes`` / ``SOLVER.REFERENCE_WORLD_SIZE``, batch size and learning rate are multiplied by P;
    iterations, steps, warm-up and the periods of checkpoints and evaluation are divided by P. That is Detectron2's rule
    (``DefaultTrainer.auto_scale_workers``). A reference of 0 leaves the config as it is.
    """
    reference, processes = cfg.SOLVER.REFERENCE_WORLD_SIZE, counted(num_processes, "process")
    if not reference:
        rule = "batch size, learning rate and schedule are the config's for any number of processes"
    elif reference == num_processes:
        rule = "batch size, learning rate and schedule are the config's"
    else:
        up, down = Fraction(num_processes, reference), Fraction(reference, num_processes)
        rule = f"batch size and learning rate times {up}; iterations, steps, warm-up and periods times {down}"
    cfg = scale_schedule(cfg, num_processes)
    solver = cfg.SOLVER
    logger.info(
        f"{processes}, SOLVER.REFERENCE_WORLD_SIZE {reference}: {rule}: "
        f"{counted(solver.IMS_PER_BATCH, 'image')} per iteration, learning rate {solver.BASE_LR:g}, "
        f"{length_of_training(cfg)}"
    )
    if solver.WARMUP_ITERS >= solver.MAX_ITER and not solver.EPOCHS:
        logger.warning(
            f"SOLVER.WARMUP_ITERS {solver.WARMUP_ITERS} is not less than SOLVER.MAX_ITER {solver.MAX_ITER}: the "
            f"learning rate never reaches SOLVER.BASE_LR {solver.BASE_LR:g}; set fewer warm-up iterations"
        )
    return cfg


def length_of_training(cfg: CfgNode) -> str:
    """Return the epochs or iterations that a config trains for, in words."""
    solver = cfg.SOLVER
    return counted(solver.EPOCHS, "epoch") if solver.EPOCHS else counted(solver.MAX_ITER, "iteration")


def scale_schedule(cfg: CfgNode, num_processes: int) -> CfgNode:
    """Return the config scaled by Detectron2's rule; no training and no period gets shorter than an iteration.

    Args:
        cfg: Config for ``SOLVER.REFERENCE_WORLD_SIZE`` processes, 0 for any number of them.
        num_processes: Processes to scale it to.
    """
    scaled = DefaultTrainer.auto_scale_workers(cfg, num_processes)
    if scaled is cfg:
        return cfg
    frozen = scaled.is_frozen()
    scaled.defrost()
    scaled.SOLVER.MAX_ITER = max(1, scaled.SOLVER.MAX_ITER)
    scaled.SOLVER.CHECKPOINT_PERIOD = max(1, scaled.SOLVER.CHECKPOINT_PERIOD)
    if cfg.TEST.EVAL_PERIOD:  # 0: no evaluation but the last
        scaled.TEST.EVAL_PERIOD = max(1, scaled.TEST.EVAL_PERIOD)
    if frozen:
        scaled.freeze()
    return scaled


def epochs_to_iterations(cfg: CfgNode, num_images: int) -> CfgNode:
    """Return the config with iterations in place of what it states in epochs, and log them.

    The steps of the schedule keep their share of the training. The warm-up keeps its iterations, but is at most
    ``WARM_UP_SHARE`` of the training. A training in which there would be no checkpoint has ``CHECKPOINTS``.

    Args:
        cfg: Config of all processes together.
        num_images: Images of an epoch.
    """
    epochs, every, saved = cfg.SOLVER.EPOCHS, cfg.TEST.EVAL_EPOCHS, cfg.SOLVER.CHECKPOINT_EPOCHS
    if not (epochs or every or saved):
        return cfg
    cfg = cfg.clone()
    cfg.defrost()
    solver, batch = cfg.SOLVER, cfg.SOLVER.IMS_PER_BATCH

    def iterations(number: float) -> int:
        return max(1, round(number * num_images / batch))

    if epochs:
        before, solver.MAX_ITER = solver.MAX_ITER, iterations(epochs)
        solver.STEPS = tuple(round(step * solver.MAX_ITER / before) for step in solver.STEPS)
        solver.WARMUP_ITERS = min(solver.WARMUP_ITERS, int(solver.MAX_ITER * WARM_UP_SHARE))
    cfg.TEST.EVAL_PERIOD = iterations(every) if every else cfg.TEST.EVAL_PERIOD
    if saved:
        solver.CHECKPOINT_PERIOD = iterations(saved)
    elif epochs and solver.CHECKPOINT_PERIOD >= solver.MAX_ITER:
        solver.CHECKPOINT_PERIOD = -(-solver.MAX_ITER // CHECKPOINTS)
    steps = ", ".join(map(str, solver.STEPS)) or "none"
    logger.info(
        f"An epoch is {counted(f'{num_images / batch:.4g}', 'iteration')}, {counted(num_images, 'image')} in "
        f"batches of {batch}: {counted(solver.MAX_ITER, 'iteration')}, steps at {steps}, a warm-up of "
        f"{solver.WARMUP_ITERS}, evaluation every {cfg.TEST.EVAL_PERIOD or solver.MAX_ITER}, a checkpoint every "
        f"{solver.CHECKPOINT_PERIOD}"
    )
    cfg.freeze()
    return cfg


def without_useless_steps(cfg: CfgNode) -> CfgNode:
    """Return the config with the steps of the learning rate that a training has, each once; log those left out.

    Those of a short training may fall on one iteration, on its beginning or on its end.
    """
    solver = cfg.SOLVER
    kept = tuple(sorted({step for step in solver.STEPS if 0 < step < solver.MAX_ITER}))
    if kept == tuple(solver.STEPS) or solver.LR_SCHEDULER_NAME != "WarmupMultiStepLR":
        return cfg
    logger.warning(
        f"SOLVER.STEPS {', '.join(map(str, solver.STEPS))} become {', '.join(map(str, kept)) or 'none'}: each step is "
        f"at an iteration of its own within the {counted(solver.MAX_ITER, 'iteration')}"
    )
    cfg = cfg.clone()
    cfg.defrost()
    cfg.SOLVER.STEPS = kept
    cfg.freeze()
    return cfg
