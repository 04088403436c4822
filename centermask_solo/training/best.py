"""The weights of the best evaluation of a training, in a file of their own."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm

from ..checkpoint import Checkpointer, read_weights
from ..utils.errors import ConfigError, WeightsError
from ..utils.text import name_some

logger = logging.getLogger(__name__)

BEST = "model_best"  # its file lacks the state of the optimizer, and is never resumed
_ENTRY = "best"  # of that file: what the weights are the best in


class EnoughTraining(BaseException):
    """Ends a training early. Not an Exception, which the loop would log as a failure."""


def check_early_stopping(cfg: CfgNode) -> None:
    """Raise ConfigError if ``TEST.PATIENCE`` lacks the metric or the evaluations that it waits for."""
    if cfg.TEST.PATIENCE and not cfg.TEST.KEEP_BEST:
        raise ConfigError('TEST.PATIENCE needs a metric: set TEST.KEEP_BEST, for example to "segm/AP"')
    if cfg.TEST.PATIENCE and not cfg.TEST.EVAL_PERIOD:
        raise ConfigError("TEST.PATIENCE counts evaluations in training: set TEST.EVAL_PERIOD or TEST.EVAL_EPOCHS")


class BestWeights:
    """Keeps the weights with the best value of a metric, the lowest of a loss and else the highest, in a file."""

    def __init__(self, checkpointer: Checkpointer, metric: str) -> None:
        """
        Args:
            checkpointer: Writes the file, with class names and config.
            metric: Name of the metric, such as "segm/AP".
        """
        self.checkpointer, self.metric = checkpointer, metric
        self._sign = -1 if "loss" in metric.rpartition("/")[2] else 1
        self.value, self.iteration = -math.inf * self._sign, 0

    def resume(self) -> None:
        """Continue with the value of the file that an interrupted training has left, if there is one."""
        path = os.path.join(self.checkpointer.save_dir, f"{BEST}.pth")
        if not os.path.isfile(path):
            return
        try:
            stored = read_weights(path, mapped=True).metadata.get(_ENTRY)
        except WeightsError as error:
            logger.warning(f"{error}; it will be replaced")
            return
        if isinstance(stored, dict) and stored.get("metric") == self.metric:
            self.value, self.iteration = float(stored["value"]), int(stored["iteration"])

    def offer(self, results: Mapping[str, Any], iteration: int, weights: str) -> None:
        """Write the weights that the model has now, if they are better than all before.

        Args:
            results: Results of their evaluation; empty in all processes but the main one.
            iteration: Number of iterations that they were trained for.
            weights: What they are, "raw" or "averaged".
        """
        if not comm.is_main_process() or not results:
            return
        values = flatten_results_dict(results)
        value = values.get(self.metric)
        if value is None:
            logger.warning(f"TEST.KEEP_BEST {self.metric} is none of the metrics ({name_some(sorted(values))})")
            return
        if not self._sign * value > self._sign * self.value:  # nor if it is not a number
            return
        self.value, self.iteration = value, iteration
        entry = {"metric": self.metric, "value": float(value), "iteration": iteration, "weights": weights}
        self.checkpointer.write(BEST, {"model": self.checkpointer.model.state_dict(), _ENTRY: entry})
        logger.info(f"{self.metric} {value:.2f} of the {weights} weights is the best so far: kept in {BEST}.pth")
