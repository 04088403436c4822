"""Charts as pictures: curves, bars, and the counts of a matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .fonts import fit_fonts
from .labels import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 6.0, 4.2  # inches, of most charts
DPI = 110
TOP = 1.02  # of an axis from 0 to 1, so that a line at 1 is seen
FEW = 20  # points of a line, which are marked
MAX_LEGEND = 36  # letters of a name in a legend
MAX_NUMBERED = 16  # rows of a matrix whose counts are written into it

Line = tuple[ArrayLike, ArrayLike]  # x and y


def curves(
    lines: Mapping[str, Line],
    labels: tuple[str, str],
    *,
    mark: float | None = None,
) -> Picture:
    """Return a chart of lines, both of whose coordinates are from 0 to 1.

    Args:
        lines: Their names, x and y; nan is left out.
        labels: What x and y are.
        mark: Where to draw a vertical line.
    """
    figure, axes = _figure(WIDTH, HEIGHT)
    shades = _shades(len(lines))
    for color, (name, (x, y)) in zip(shades, lines.items(), strict=True):
        axes.plot(x, y, label=name, color=color, linewidth=1.5)
    if mark is not None:
        axes.axvline(mark, color="gray", linestyle=":", linewidth=1)
    axes.set(xlabel=labels[0], ylabel=labels[1], xlim=(0, 1), ylim=(0, TOP))
    axes.grid(alpha=0.3)
    if len(lines) > 1:
        axes.legend(fontsize="small")
    return _draw(figure)


def history(lines: Mapping[str, Line], title: str) -> Picture:
    """Return a chart of values over the iterations of a training.

    Args:
        lines: Their names, iterations and values.
        title: Above it.
    """
    figure, axes = _figure(WIDTH, HEIGHT - 0.8)
    for name, (iterations, values) in lines.items():
        axes.plot(iterations, values, marker="." if np.size(values) < FEW else "", label=name)
    axes.set(title=title, xlabel="iteration")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return _draw(figure)


def small_curves(lines: Mapping[str, Mapping[str, Line]], labels: tuple[str, str], columns: int = 6) -> Picture:
    """Return many small charts of lines side by side, all from 0 to 1.

    Args:
        lines: Title of each chart, with its lines by name, whose legend is that of the first chart.
        labels: What x and y are.
        columns: Charts side by side.
    """
    from matplotlib.figure import Figure

    rows = -(-len(lines) // columns)
    figure = Figure(figsize=(2.0 * columns, 1.9 * rows + 0.5), dpi=DPI, layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, (title, some) in zip(grid, lines.items(), strict=False):
        for color, (name, (x, y)) in zip(_shades(len(some)), some.items(), strict=True):
            axes.plot(x, y, label=name, color=color, linewidth=1.2)
        axes.set(xlim=(0, 1), ylim=(0, TOP), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        axes.set_title(title, fontsize=9)
        axes.grid(alpha=0.3)
    for axes in grid[len(lines) :]:
        axes.set_axis_off()
    figure.supxlabel(labels[0], fontsize=10)
    figure.supylabel(labels[1], fontsize=10)
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper right", ncols=4, fontsize="small")
    return _draw(figure)


def bars(names: Sequence[str], series: Mapping[str, ArrayLike], label: str) -> Picture:
    """Return a chart of horizontal bars, with their values.

    Args:
        names: Of the rows, from the top.
        series: One value per row, for each of them; several stand below each other.
        label: What the values are.
    """
    count = len(series)
    figure, axes = _figure(WIDTH, 1.1 + len(names) * (0.18 + 0.17 * count))
    places = np.arange(len(names))
    for i, (name, values) in enumerate(series.items()):
        numbers: NDArray[Any] = np.nan_to_num(np.asarray(values, dtype=np.float64))
        drawn = axes.barh(places + (i - (count - 1) / 2) * 0.8 / count, numbers, 0.8 / count, label=_shortened(name))
        texts = ["–" if np.isnan(x) else f"{x:.1f}" for x in np.asarray(values, dtype=np.float64)]
        axes.bar_label(drawn, texts, padding=3, fontsize=8)
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set(xlabel=label)
    axes.axvline(0, color="black", linewidth=0.6)
    if count > 1:
        figure.legend(loc="outside upper right", ncols=2, fontsize="small")
    return _draw(figure)


def matrix(counts: NDArray[Any], names: tuple[Sequence[str], Sequence[str]], labels: tuple[str, str]) -> Picture:
    """Return a picture of the shares of each row of a square matrix, darker for larger ones.

    Args:
        counts: (N, N), at least 0.
        names: Those of the columns, and of the rows.
        labels: What columns and rows are.
    """
    side = min(3.0 + 0.3 * len(counts), 12.0)
    figure, axes = _figure(side + 0.8, side)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(counts)), names[0], rotation=90, fontsize=8)
    axes.set_yticks(range(len(counts)), names[1], fontsize=8)
    axes.set(xlabel=labels[0], ylabel=labels[1])
    if len(counts) <= MAX_NUMBERED:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                color = "white" if shares[row, column] > 0.6 else "black"
                axes.text(column, row, str(count), ha="center", va="center", fontsize=7, color=color)
    return _draw(figure)


def reliability(score: ArrayLike, precision: ArrayLike, count: ArrayLike, labels: tuple[str, str]) -> Picture:
    """Return a chart of the precision in bins of scores over the line where both are equal, and of the bins' sizes.

    Args:
        score: (B,) mean score of each bin; nan for empty ones.
        precision: (B,)
        count: (B,) size of each bin.
        labels: What x and y are.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT + 1), dpi=DPI, layout="constrained")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    numbers = np.asarray(count)
    edges = np.linspace(0, 1, len(numbers) + 1)[:-1]
    axes.bar(edges, np.nan_to_num(np.asarray(precision)), 0.96 / len(numbers), align="edge", color="tab:blue")
    axes.plot([0, 1], [0, 1], color="gray", linestyle="--", linewidth=1)
    axes.plot(score, precision, "o", color="tab:orange", markersize=4, label="mean score of the bin")
    axes.set(ylabel=labels[1], xlim=(0, 1), ylim=(0, 1))
    axes.legend(fontsize="small")
    below.bar(edges, numbers, 0.96 / len(numbers), align="edge", color="tab:gray")
    below.set(xlabel=labels[0], ylabel="detections")
    if numbers.max(initial=0) > 0:
        below.set_yscale("log")
        below.set_ylim(bottom=0.5)  # so that one detection is a bar, too
        below.yaxis.set_major_formatter("{x:,.0f}")  # its own labels are formulas, which fit_fonts does not draw
    return _draw(figure)


def histogram(values: ArrayLike, label: str, marks: Sequence[float] = ()) -> Picture:
    """Return a histogram, without what is not finite, with a line at zero and dotted ones at ``marks``."""
    figure, axes = _figure(WIDTH, HEIGHT - 1)
    numbers = np.asarray(values, dtype=np.float64)
    axes.hist(numbers[np.isfinite(numbers)], bins=40, color="tab:blue")
    axes.axvline(0, color="black", linewidth=1)
    for x in filter(np.isfinite, marks):
        axes.axvline(x, color="tab:orange", linestyle=":")
    axes.set(xlabel=label, ylabel="samples")
    return _draw(figure)


def _shortened(name: str) -> str:
    return name if len(name) <= MAX_LEGEND else f"{name[: MAX_LEGEND - 1]}…"


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    return figure, figure.subplots()


def _shades(count: int) -> list[Any]:
    """Return a color for each line: distinct ones of few, the shades of a scale of many."""
    from matplotlib import colormaps

    if count <= 4:
        return [f"C{i}" for i in range(count)]
    return [colormaps["viridis"](x) for x in np.linspace(0, 0.9, count)]


def _draw(figure: Figure) -> Picture:
    """Return the picture of a figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    fit_fonts(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
