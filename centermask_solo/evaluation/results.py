"""Evaluation results as a table for people and as a file for programs."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any

TASK_NAMES = {"segm": "mask", "bbox": "box"}


def format_results(results: Mapping[str, Any]) -> str:
    """A table of text: one line a task of each dataset, one column a metric; per-class metrics are left out.

    Args:
        results: what ``DefaultTrainer.test`` returns: {task: {metric: value}}, for several datasets one such dict each;
            or the same read from ``evaluation.json``.
    """
    rows = [(label, metrics) for label, metrics in _rows(results) if metrics]
    if not rows:
        return "no results"
    columns = list(dict.fromkeys(name for _, metrics in rows for name in metrics))
    width = max(len(label) for label, _ in rows)
    lines = [" " * width + "".join(f"{name:>8}" for name in columns)]
    for label, metrics in rows:
        numbers = [math.nan if metrics.get(name) is None else metrics[name] for name in columns]
        cells = "".join(f"{number:8.2f}" if math.isfinite(number) else f"{'-':>8}" for number in numbers)
        lines.append(f"{label:<{width}}{cells}")
    return "\n".join(lines)


def write_results(results: Mapping[str, Any], output_dir: str) -> str:
    """The path of ``evaluation.json``, into which ``results`` go; the table goes to ``evaluation.txt`` beside it.

    A metric that cannot be computed is null in the json.
    """
    os.makedirs(output_dir, exist_ok=True)
    path = os.path.join(output_dir, "evaluation.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(_finite(results), file, indent=1)
    with open(os.path.join(output_dir, "evaluation.txt"), "w", encoding="utf-8") as file:
        file.write(format_results(results) + "\n")
    return path


def _rows(results: Mapping[str, Any], prefix: str = "") -> list[tuple[str, dict[str, float]]]:
    """(label, {metric: value}) of each task, the dataset's name before the task's where there are several."""
    rows = []
    for name, value in results.items():
        if not isinstance(value, Mapping):
            continue
        if any(isinstance(inner, Mapping) for inner in value.values()):
            rows += _rows(value, f"{name} ")
        else:
            label = prefix + TASK_NAMES.get(name, name)
            rows.append((label, {key: number for key, number in value.items() if "-" not in key}))
    return rows


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return value if not isinstance(value, float) or math.isfinite(value) else None
