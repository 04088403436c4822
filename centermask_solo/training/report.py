"""The report of a training: one HTML file with curves, metrics, pictures, options and data."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.evaluation.testing import flatten_results_dict

from ..config import default_config
from ..config.trees import flatten
from ..utils.text import counted
from ..visualization import charts
from ..visualization.html_page import Figure, HTMLPage
from .output_folder import METRICS
from .pictures import Pair, draw_test_images
from .summary import training_summary
from .trainer import Trainer

REPORT = "report.html"
PICTURES = 8  # unless TEST.PICTURES says otherwise
History = dict[str, tuple[list[int], list[float]]]


def write_report(trainer: Trainer, results: Mapping[str, Any]) -> str:
    """Write ``report.html`` to ``OUTPUT_DIR`` and return its path.

    Args:
        trainer: Its training is over.
        results: Those of the last evaluation.
    """
    cfg = trainer.cfg
    page = HTMLPage(f"Training of {type(trainer.checkpointer.model).__name__} in {cfg.OUTPUT_DIR}")
    page.heading("Summary")
    lines = [line.split(None, 1) for line in training_summary(trainer).splitlines()]
    page.table(["", ""], [line for line in lines if line[0] != "weights"])
    page.heading("Results")
    page.table(*table_of(results))
    page.heading("Curves")
    history = read_history(os.path.join(cfg.OUTPUT_DIR, METRICS))
    groups = groups_of(history).items()
    page.charts(Figure(charts.history(curves, title), title, lossless=True) for title, curves in groups)
    if cfg.DATASETS.TEST:
        pairs = draw_test_images(cfg, trainer.checkpointer.model, cfg.TEST.PICTURES or PICTURES)
        if (first := next(pairs, None)) is not None:
            page.heading("Ground truth and detections")
            page.figures(map(_figure, itertools.chain([first], pairs)))
    page.heading("Options that are not at their defaults")
    page.table(["option", "value"], list(changed_options(cfg).items()))
    path = os.path.join(cfg.OUTPUT_DIR, REPORT)
    page.write(path)
    return path


def _figure(pair: Pair) -> Figure:
    name = os.path.basename(pair.file_name)
    return Figure(pair.picture, f"{name}: {counted(pair.number, 'detection')}", name)


def table_of(results: Mapping[str, Any]) -> tuple[list[str], list[list[object]]]:
    """Return the header and the rows of a table of metrics with a column for each task.

    Metrics that do not exist, such as the AP of a class without objects, are left out.
    """
    rows: dict[str, dict[str, float]] = {}
    tasks: dict[str, None] = {}
    for name, value in flatten_results_dict(dict(results)).items():
        if math.isfinite(value):
            task, _, metric = name.rpartition("/")
            tasks[task] = None
            rows.setdefault(metric, {})[task] = round(float(value), 2)
    return ["metric", *tasks], [[metric, *(found.get(task, "") for task in tasks)] for metric, found in rows.items()]


def read_history(path: str) -> History:
    """Return iterations and values of each metric in a ``metrics.json``, by name; empty if there is no such file.

    Iterations that a resumed training has repeated have its values.
    """
    found: dict[str, dict[int, float]] = {}
    for line in Path(path).read_text().splitlines() if os.path.isfile(path) else ():
        entry = json.loads(line)
        for name, value in entry.items():
            if isinstance(value, (int, float)) and name != "iteration":
                found.setdefault(name, {})[entry["iteration"]] = value
    return {name: (sorted(values), [values[i] for i in sorted(values)]) for name, values in found.items()}


def groups_of(history: History) -> dict[str, History]:
    """Return the curves that belong together, by title: losses, learning rate, and the metrics of each task."""
    groups: dict[str, History] = {}
    for name, curve in history.items():
        task, _, metric = name.rpartition("/")
        if "loss" in metric:
            groups.setdefault(f"losses of {task}" if task else "losses", {})[name] = curve
        elif name == "lr":
            groups["learning rate"] = {name: curve}
        elif task and metric.startswith(("AP", "mIoU", "PQ")) and "-" not in metric:
            groups.setdefault(task, {})[metric] = curve
    return groups


def changed_options(cfg: CfgNode) -> dict[str, str]:
    """Return the options of a config that differ from the defaults, as texts; lists are as good as tuples."""
    defaults = flatten(default_config())
    return {name: str(x) for name, x in flatten(cfg).items() if json.dumps(defaults.get(name)) != json.dumps(x)}
