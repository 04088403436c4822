"""The chart of equal_time.py: how the AP of each system grows with the CPU time of its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.system_run import IMAGES_PER_ITERATION
from centermask_solo.utils.files import atomic_write
from centermask_solo.visualization.fonts import fit_fonts

SIZE = (7.0, 4.2)  # inches
DPI = 110
TASK = "segm"


def draw(records: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> bool:
    """Draw a line for each seed of each system; return whether there is one.

    Args:
        records: Of the seeds of each system, by its title; older ones have no curve.
        path: PNG file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = {title: [line(x) for x in found if "curve" in x] for title, found in records.items()}
    if not any(lines.values()):
        return False
    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    for i, (title, of_seeds) in enumerate(lines.items()):
        for k, (minutes, aps) in enumerate(of_seeds):
            axes.plot(minutes, aps, marker=".", linewidth=1.2, color=f"C{i}", label=title if k == 0 else None)
    axes.set(xlabel="CPU minutes of training", ylabel="mask AP")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    fit_fonts(figure)
    with atomic_write(path, "wb") as file:
        canvas.print_png(file)
    return True


def line(record: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    """Return the CPU minutes and the AP of the checkpoints of a training and of its end."""
    train = record["train"]
    points = [(x["iteration"], x[TASK]) for x in record["curve"]["points"] if x["iteration"] < train["iterations"]]
    points.append((train["iterations"], record["predict"]["results"][TASK]["AP"]))
    minutes = [cpu_seconds(record) / 60 * iteration / train["iterations"] for iteration, _ in points]
    return minutes, [ap for _, ap in points]


def cpu_seconds(record: Mapping[str, Any]) -> float:
    """Return the CPU time of a training: the measured one, or that of as many iterations at the pace of a CPU."""
    train = record["train"]
    if "pace" not in record:
        return float(train["cpu_seconds"])
    images = train["iterations"] * train["batch"]
    return float(record["pace"]["cpu_seconds_per_iteration"] * images / IMAGES_PER_ITERATION)
