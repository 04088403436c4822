"""Format evaluation results as a table, and write them to files."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any

from ..utils.files import atomic_write

TASK_NAMES = {"segm": "mask", "bbox": "box", "sem_seg": "semantic", "panoptic_seg": "panoptic"}


def format_results(results: Mapping[str, Any]) -> str:
    """Return a text table with one row per task of each dataset and one column per metric, without per-class metrics.

    Tasks that share no metric get tables of their own. "-" is a metric that does not exist, such as the AP of small
    objects where there are none.

    Args:
        results: Return value of ``DefaultTrainer.test``, {task: {metric: value}} or for several datasets one such dict
            each, or the same read from ``evaluation.json``.
    """
    tables: list[list[tuple[str, dict[str, float]]]] = []
    for label, metrics in _rows(results):
        if metrics:
            shared = (x for x in tables if any(metrics.keys() & others.keys() for _, others in x))
            table = next(shared, None)
            if table is None:
                tables.append(table := [])
            table.append((label, metrics))
    return "\n\n".join(map(_format_table, tables)) or "no results"


def average_precisions(exact: Mapping[str, Any], fast: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Return the AP of each task of two evaluations on the same dataset, such as {"mask": (33.1, 32.8)}."""
    return {
        TASK_NAMES.get(task, task): (metrics["AP"], fast[task]["AP"])
        for task, metrics in exact.items()
        if "AP" in metrics and "AP" in fast.get(task, {})
    }


def format_average_precisions(found: Mapping[str, tuple[float, float]], exact: str, fast: str) -> str:
    """Return a line for each task with both APs, by the names of what has them, and their difference."""
    return "\n".join(f"{task} AP: {a:.2f} {exact}, {b:.2f} {fast} ({b - a:+.2f})" for task, (a, b) in found.items())


def write_results(results: Mapping[str, Any], output_dir: str) -> str:
    """Write ``evaluation.json`` and, with the table, ``evaluation.txt``; return the path of the former.

    A metric that cannot be computed is null in the json.
    """
    path = os.path.join(output_dir, "evaluation.json")
    write_json(results, path)
    with atomic_write(os.path.join(output_dir, "evaluation.txt")) as file:
        file.write(format_results(results) + "\n")
    return path


def write_json(results: Mapping[str, Any], path: str) -> None:
    """Write results as json; a metric that cannot be computed is null."""
    with atomic_write(path) as file:
        json.dump(_finite(results), file, indent=1)


def _format_table(rows: list[tuple[str, dict[str, float]]]) -> str:
    columns = list(dict.fromkeys(name for _, metrics in rows for name in metrics))
    width = max(len(label) for label, _ in rows)
    widths = [max(8, len(name) + 2) for name in columns]
    lines = [" " * width + "".join(f"{name:>{w}}" for name, w in zip(columns, widths, strict=True))]
    for label, metrics in rows:
        numbers = [math.nan if metrics.get(name) is None else metrics[name] for name in columns]
        texts = [f"{number:.2f}" if math.isfinite(number) else "-" for number in numbers]
        lines.append(f"{label:<{width}}" + "".join(f"{x:>{w}}" for x, w in zip(texts, widths, strict=True)))
    return "\n".join(lines)


def _rows(results: Mapping[str, Any], prefix: str = "") -> list[tuple[str, dict[str, float]]]:
    """Return (label, {metric: value}) of each task; the label begins with the dataset's name if there are several."""
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
