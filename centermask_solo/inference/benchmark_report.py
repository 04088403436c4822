"""Measurements of prediction as a table and as a picture."""

from __future__ import annotations

import os
from collections.abc import Sequence

from tabulate import tabulate

from ..modeling.complexity import Part
from ..utils.errors import ConfigError
from ..utils.files import atomic_write
from ..utils.text import counted
from ..visualization.fonts import fit_fonts
from .benchmark import TOTAL, Measured, Report
from .stages import STAGES

MB = 10**6
PICTURES = (".png", ".pdf", ".svg")


def format_report(report: Report) -> str:
    """Return the table of the stages, with what the figures depend on above it."""
    about = report.machine
    device = f"{about['gpu']}, " if any(x.device.startswith("cuda") for x in report.measured) else ""
    threads = counted(about["threads"], "thread")
    lines = [
        f"{device}{about['cpu']}, {threads}; PyTorch {about['torch']}, Detectron2 {about['detectron2']}",
        f"images: {report.images}; {report.batch_size} per forward pass; {counted(report.runs, 'run')} of "
        "each config, interleaved",
        f"milliseconds{' of CPU time' if report.cpu_time else ''} per image: median (90th percentile)",
        "",
        _table(report.measured),
    ]
    without = [x.name for x in report.measured if not x.weights]
    if without:
        lines += [
            "",
            f"random weights: {', '.join(without)}. The network takes as long as with trained ones; decoding, masks "
            "and RLE depend on the number of detections",
        ]
    return "\n".join(lines)


def _table(measured: Sequence[Measured]) -> str:
    stages = [x for x in (*STAGES, TOTAL) if any(x in m.seconds for m in measured)]
    rows = [(stage, *(_time(m, stage) for m in measured)) for stage in stages]
    rows += [
        ("images/s, end to end", *(f"{1 / m.median():.2f}" for m in measured)),
        ("images/s, network", *("" if m.network_rate is None else f"{m.network_rate:.2f}" for m in measured)),
        ("detections per image", *(f"{m.detections:.1f}" for m in measured)),
        ("input of the network", *(_sizes(m) for m in measured)),
        ("parameters", *("" if m.parameters is None else f"{m.parameters / MB:.2f} M" for m in measured)),
        ("precision", *(m.dtype for m in measured)),
        *(
            (f"peak memory, {key}", *(f"{m.memory[key] / MB:.0f} MB" if key in m.memory else "" for m in measured))
            for key in dict.fromkeys(key for m in measured for key in m.memory)
        ),
    ]
    return tabulate(rows, ("stage", *(m.name for m in measured)), disable_numparse=True)


def _time(measured: Measured, stage: str) -> str:
    if stage not in measured.seconds:
        return ""
    return f"{1000 * measured.median(stage):.1f} ({1000 * measured.p90(stage):.1f})"


def _sizes(measured: Measured) -> str:
    """Return the sizes of the inputs; "" if they are unknown."""
    first, *others = [f"{height} x {width}" for height, width in measured.input_sizes] or [""]
    return first if not others else f"{first} and {len(others)} more"


def check_picture(path: str) -> None:
    """Raise ConfigError unless the name of a file is one of a picture that can be plotted."""
    if os.path.splitext(path)[1].lower() not in PICTURES:
        raise ConfigError(f"{path} cannot be plotted: name a file that ends in {', '.join(PICTURES)}")


def plot(report: Report, path: str) -> None:
    """Write a bar of the stages' medians for each config.

    Raises:
        ConfigError: The name of the file is none of a picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    check_picture(path)
    figure = Figure(figsize=(9, 1.6 + 0.6 * len(report.measured)), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    names = [x.name for x in report.measured]
    left = [0.0] * len(names)
    for stage in STAGES:
        widths = [1000 * x.median(stage) if stage in x.seconds else 0.0 for x in report.measured]
        if any(widths):
            axes.barh(names, widths, left=left, label=stage)
            left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel(f"milliseconds{' of CPU time' if report.cpu_time else ''} per image (medians of the stages)")
    figure.legend(fontsize="small", loc="outside lower center", ncols=4)
    fit_fonts(figure)
    with atomic_write(path, "wb") as file:
        canvas.print_figure(file, format=os.path.splitext(path)[1][1:].lower(), dpi=150)


def format_parts(parts: Sequence[Part], size: tuple[int, int]) -> str:
    """Return the table of a model's parts.

    Args:
        parts: From ``count_parts``.
        size: (height, width) of the input that they were counted for.
    """
    rows = [(x.name, f"{x.parameters / 1e6:.2f} M", f"{x.macs / 1e9:.2f} G") for x in parts]
    total = [sum(x.parameters for x in parts) / 1e6, sum(x.macs for x in parts) / 1e9]
    rows.append(("total", f"{total[0]:.2f} M", f"{total[1]:.2f} G"))
    headers = ("part", "parameters", f"multiply-adds at {size[0]} x {size[1]}")
    return tabulate(rows, headers, disable_numparse=True, colalign=("left", "right", "right"))
