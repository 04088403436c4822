"""When metrics are written, and experiment trackers that get them: Weights & Biases and MLflow, optional packages."""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine.hooks import PeriodicWriter
from detectron2.utils.events import EventWriter, get_event_storage

from ..config.trees import flatten
from ..utils.errors import MissingPackageError

WINDOW = 20  # iterations; the median of losses is written
MAX_VALUE = 500  # characters of an option that MLflow takes


class EvaluationsWriter(PeriodicWriter):
    """Writes periodically and, since storages keep only the latest value of a metric, after each evaluation."""

    _written: Any = None  # the results of the last evaluation

    def before_step(self) -> None:
        """Write an evaluation that was made up for before the training."""
        self._write_evaluation()

    def after_step(self) -> None:
        """Write if there was an evaluation, or it is time."""
        if not self._write_evaluation():
            super().after_step()

    def _write_evaluation(self) -> bool:
        results = getattr(self.trainer, "_last_eval_results", None)
        if results is self._written:
            return False
        self._written = results
        for writer in self._writers:
            writer.write()
        return True


class TrackerWriter(EventWriter):
    """Writes every metric once; a subclass says where."""

    def __init__(self) -> None:
        self._last = -1

    def write(self) -> None:
        """Write what is new since the last call, by iteration."""
        latest = get_event_storage().latest_with_smoothing_hint(WINDOW)
        by_iteration: dict[int, dict[str, float]] = {}
        for name, (value, iteration) in latest.items():
            if iteration > self._last:
                by_iteration.setdefault(iteration, {})[name] = float(value)
        for iteration in sorted(by_iteration):
            self.log(by_iteration[iteration], iteration)
            self._last = iteration

    def log(self, metrics: dict[str, float], iteration: int) -> None:
        """Write the metrics of an iteration."""
        raise NotImplementedError


class WandbWriter(TrackerWriter):
    """A run of Weights & Biases; its account and project come from ``wandb login`` and the variables ``WANDB_*``."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        wandb = _import("wandb")
        self._run = wandb.init(dir=cfg.OUTPUT_DIR, name=_name(cfg), config=flatten(cfg))

    def log(self, metrics: dict[str, float], iteration: int) -> None:
        """Log the metrics."""
        self._run.log(metrics, step=iteration)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


class MLflowWriter(TrackerWriter):
    """A run of MLflow; where it goes comes from the variables ``MLFLOW_*``."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self._mlflow: Any = _import("mlflow")
        self._mlflow.start_run(run_name=_name(cfg))
        self._mlflow.log_params({name: str(value)[:MAX_VALUE] for name, value in flatten(cfg).items()})

    def log(self, metrics: dict[str, float], iteration: int) -> None:
        """Log the metrics, whose names may have no percent signs and the like there."""
        allowed = {"".join(c if c.isalnum() or c in "_-. /" else "_" for c in name): x for name, x in metrics.items()}
        self._mlflow.log_metrics(allowed, step=iteration)

    def close(self) -> None:
        """End the run."""
        self._mlflow.end_run()


TRACKERS: dict[str, type[WandbWriter] | type[MLflowWriter]] = {"wandb": WandbWriter, "mlflow": MLflowWriter}


def build_trackers(cfg: CfgNode) -> list[EventWriter]:
    """Return the writers of ``SOLVER.TRACKERS``.

    Raises:
        MissingPackageError: The package of one is not installed.
    """
    return [TRACKERS[name](cfg) for name in cfg.SOLVER.TRACKERS]


def _import(package: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingPackageError(
            f'SOLVER.TRACKERS "{package}" needs the package {package}: run \'pip install "centermask_solo[{package}]"\''
        ) from error


def _name(cfg: CfgNode) -> str:
    return os.path.basename(os.path.abspath(cfg.OUTPUT_DIR))
