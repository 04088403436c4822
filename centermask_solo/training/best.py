"""The weights of the best evaluation of a training, in a file of their own."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, HookBase
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm

from ..checkpoint import Checkpointer, read_weights
from ..checkpoint.files import AVERAGE_KEY, RESULTS
from ..evaluation.annotated import has_objects
from ..evaluation.metric_names import explain_unknown_class, is_metric, metric_patterns, prefix_of
from ..utils.errors import ConfigError, WeightsError
from ..utils.text import counted, name_some

logger = logging.getLogger(__name__)

FINAL = "model_final"
BEST = "model_best"  # its file lacks the state of the optimizer, and is never resumed
VALIDATION = "validation"  # what the losses of evaluations are under in the results
_OF_OBJECTS = ("bbox", "segm", "keypoints")  # tasks whose metrics need annotated objects
_ENTRY = "best"  # of that file: what the weights are the best in


class EnoughTraining(BaseException):
    """Ends a training early. Not an Exception, which the loop would log as a failure."""


def check_early_stopping(cfg: CfgNode) -> None:
    """Raise ConfigError if ``TEST.PATIENCE`` lacks the metric or the evaluations that it waits for."""
    if cfg.TEST.PATIENCE and not cfg.TEST.KEEP_BEST:
        raise ConfigError('TEST.PATIENCE needs a metric: set TEST.KEEP_BEST, for example to "segm/AP"')
    if cfg.TEST.PATIENCE and not cfg.TEST.EVAL_PERIOD:
        raise ConfigError("TEST.PATIENCE counts evaluations in training: set TEST.EVAL_PERIOD or TEST.EVAL_EPOCHS")


def check_best_metric(cfg: CfgNode) -> None:
    """Raise ConfigError unless evaluations will have the metric of ``TEST.KEEP_BEST``; the parts of a loss may be any.

    Args:
        cfg: Config of a training whose evaluators are those of this package.
    """
    metric = cfg.TEST.KEEP_BEST
    if not metric:
        return
    if not cfg.DATASETS.TEST:
        raise ConfigError(
            f"TEST.KEEP_BEST {metric} needs evaluations, but DATASETS.TEST is empty: name a dataset there"
        )
    plain = metric.removeprefix(f"{AVERAGE_KEY}/")
    patterns = [*metric_patterns(cfg), *([f"{VALIDATION}/total_loss"] if cfg.TEST.LOSS else [])]
    of_losses = plain.startswith(f"{VALIDATION}/")
    if plain != metric and (of_losses or is_metric(plain, patterns)):
        raise ConfigError(
            f"TEST.KEEP_BEST {metric}: both the weights and their average are compared in one metric: set "
            f"TEST.KEEP_BEST {plain}"
        )
    if of_losses:
        if not cfg.TEST.LOSS:
            raise ConfigError(f"TEST.KEEP_BEST {metric} needs the losses of DATASETS.TEST: set TEST.LOSS True")
        return
    if not is_metric(metric, patterns):
        raise ConfigError(f"TEST.KEEP_BEST {metric} is none of the metrics: choose one of {', '.join(patterns)}")
    if reason := explain_unknown_class(cfg, metric):
        raise ConfigError(f"TEST.KEEP_BEST {metric} is none of the metrics: {reason}")
    for name in cfg.DATASETS.TEST:
        if metric.startswith(tuple(f"{prefix_of(cfg, name)}{task}/" for task in _OF_OBJECTS)) and not has_objects(name):
            raise ConfigError(
                f"TEST.KEEP_BEST {metric} needs annotated images, but those of '{name}' have no objects: give their "
                "annotations, or leave it out"
            )


def check_best_loss(metric: str, losses: Collection[str]) -> None:
    """Raise ConfigError if a metric is a part of the validation loss that the model does not have.

    Args:
        metric: ``TEST.KEEP_BEST``.
        losses: Names of what the model has returned in an iteration, with ``total_loss``.
    """
    task, _, name = metric.partition("/")
    if task == VALIDATION and name not in losses:
        known = ", ".join(f"{VALIDATION}/{x}" for x in sorted(losses))
        raise ConfigError(f"TEST.KEEP_BEST {metric} is none of the losses: choose one of {known}")


class BestWeights:
    """Keeps the weights with the best value of a metric in a file: the highest, or the lowest of a validation loss."""

    def __init__(self, checkpointer: Checkpointer, metric: str) -> None:
        """
        Args:
            checkpointer: Writes the file, with class names and config.
            metric: Name of the metric, such as "segm/AP".
        """
        self.checkpointer, self.metric = checkpointer, metric
        self._sign = -1 if metric.rpartition("/")[0] == VALIDATION else 1
        self.value, self.iteration = -math.inf * self._sign, 0
        self.unmeasured: set[int] = set()  # iterations whose evaluations lack the metric, which do not count
        self._measured = 0  # the last one that has it

    def resume(self, start_iter: int) -> None:
        """Continue with the value of the file that an interrupted training has left, if there is one.

        Args:
            start_iter: Iteration that the training goes on with; 0 if the other one has left no checkpoint.
        """
        path = os.path.join(self.checkpointer.save_dir, f"{BEST}.pth")
        if not os.path.isfile(path):
            return
        try:
            stored = read_weights(path, mapped=True).metadata.get(_ENTRY)
        except WeightsError as error:
            logger.warning(f"{error}; it will be replaced")
            return
        if not isinstance(stored, dict) or stored.get("metric") != self.metric:
            logger.warning(f"{path} is not the best in TEST.KEEP_BEST {self.metric}: it will be replaced")
            return
        self.value, self.iteration = float(stored["value"]), int(stored["iteration"])
        if not start_iter:
            logger.info(
                f"{path}, with {self.metric} {self.value:.2f} after {counted(self.iteration, 'iteration')} of the "
                "interrupted training, stays until an evaluation is better"
            )

    def is_stale(self, cfg: CfgNode, done: int) -> bool:
        """Return, in all processes, whether an evaluation after ``done`` iterations ends the training; log it if so.

        It does if ``TEST.PATIENCE`` evaluations, this one included, were no better than the best.
        """
        patience, period = cfg.TEST.PATIENCE, cfg.TEST.EVAL_PERIOD
        if not patience or done % period or done >= cfg.SOLVER.MAX_ITER:
            return False
        skipped = sum(self.iteration < x <= done for x in self.unmeasured)
        worse = done - self.iteration - skipped * period >= patience * period
        stale = comm.all_gather(worse and comm.is_main_process())[0]
        if stale:
            logger.info(
                f"{self.metric} has not improved in {counted(patience, 'evaluation')}, since iteration "
                f"{self.iteration}: the training ends."
            )
        return stale

    def offer(self, results: Mapping[str, Any], iteration: int, weights: str) -> None:
        """Write the weights that the model has now, if they are better than all before.

        Args:
            results: Results of their evaluation; empty in all processes but the main one.
            iteration: Number of iterations that they were trained for.
            weights: What they are, "raw" or "averaged".

        Raises:
            NonFiniteLossError: A parameter of the best is infinite or NaN; nothing is written.
        """
        if not comm.is_main_process():
            return
        values = flatten_results_dict(results)
        value = values.get(self.metric, math.nan)
        if math.isnan(value):
            known = name_some(sorted(values)) or "there are none"
            reason = f"is none of the metrics ({known})"
            if self.metric in values:
                reason = "is NaN, as where there are no objects of its kind"
            logger.warning(
                f"TEST.KEEP_BEST {self.metric} {reason}: the evaluation of the {weights} weights does not count"
            )
            if iteration != self._measured:
                self.unmeasured.add(iteration)
            return
        self._measured = iteration
        self.unmeasured.discard(iteration)
        if not self._sign * value > self._sign * self.value:
            return
        self.value, self.iteration = value, iteration
        entry = {"metric": self.metric, "value": float(value), "iteration": iteration, "weights": weights}
        state = self.checkpointer.model.state_dict()
        self.checkpointer.write(BEST, {"model": state, _ENTRY: entry, RESULTS: _numbers(values)})
        logger.info(f"{self.metric} {value:.2f} of the {weights} weights is the best so far: kept in {BEST}.pth")


def save_missing_final(trainer: DefaultTrainer) -> None:
    """Save the final weights of a training that was killed after its last iteration, but before it saved them."""
    checkpointer, done = trainer.checkpointer, trainer.start_iter
    path = os.path.join(checkpointer.save_dir, f"{FINAL}.pth")
    if comm.is_main_process() and done >= trainer.max_iter and not os.path.exists(path):
        checkpointer.save(FINAL, iteration=done - 1)


def store_results(checkpointer: Checkpointer, results: Mapping[str, Any]) -> None:
    """Write the metrics of the last evaluation of a training into its last checkpoint, whose weights they are of.

    Args:
        checkpointer: Has written the checkpoint.
        results: Results of the evaluation; if they are empty, nothing is written.
    """
    path = os.path.join(checkpointer.save_dir, f"{FINAL}.pth")
    if results and comm.is_main_process() and os.path.isfile(path):
        content = torch.load(path, map_location="cpu", weights_only=True)
        checkpointer.write(FINAL, {**content, RESULTS: _numbers(flatten_results_dict(results))})


def _numbers(results: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(x) for name, x in results.items() if isinstance(x, (int, float))}


class EarlyStopping(HookBase):
    """Ends the training when its metric no longer improves; runs after the hooks that evaluate."""

    def __init__(self, best: BestWeights, evaluate: Callable[[], Any]) -> None:
        """
        Args:
            best: The best weights, which each evaluation is offered to.
            evaluate: Evaluates the weights after iteration ``trainer.iter``, and stores the metrics.
        """
        self._best, self._evaluate = best, evaluate

    def before_train(self) -> None:
        """Make up for the evaluation that an interruption may have cost after the last checkpoint.

        Without ``TEST.PATIENCE`` as well: its weights may be the best.
        """
        trainer = self.trainer
        done, period = trainer.start_iter, trainer.cfg.TEST.EVAL_PERIOD
        if period and 0 < done < trainer.max_iter and done % period == 0:
            trainer.iter = trainer.storage.iter = done - 1
            self._evaluate()
            self.after_step()

    def after_step(self) -> None:
        """End the training if the evaluation of this iteration says so."""
        if self._best.is_stale(self.trainer.cfg, self.trainer.iter + 1):
            raise EnoughTraining
