"""The tables of an analysis, for its page and for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..evaluation.analysis import Analysis, Comparison
from ..evaluation.analysis.bootstrap import Interval
from ..evaluation.analysis.summary import AP50, AP75
from ..utils.text import counted

CLASS_HEADER = ("class", "objects", "detections", "AP", "AP50", "AP75", "boundary AP", "recall", "best F1", "at score")
IN_TERMINAL = (0, 1, 3, 4, 5, 7)  # columns of the table of classes that a terminal shows
MAX_CLASSES = 20  # rows there
Cell = float | int | str


def about(*analyses: Analysis) -> str:
    """Return a sentence on what was analyzed, of one or two models."""
    evaluated = analyses[0].evaluated
    annotated, of = evaluated.annotated, "an image and class"
    kind = {"segm": "masks", "bbox": "boxes"}[evaluated.detected.iou_type]
    detections = " and ".join(str(len(x.evaluated.detected)) for x in analyses)
    if annotated.federation is not None:
        of = "an image, of classes that it is annotated for"
    return (
        f"{counted(len(annotated.records), 'image')} with {counted(int((~annotated.crowds).sum()), 'object')}; "
        f"{counted(detections, 'detection')}, "
        f"by their {kind}. Up to {analyses[0].max_detections} detections of {of} count."
    )


def interval_text(x: Interval) -> str:
    """Return an interval in words."""
    if math.isnan(x.value):
        return "which does not exist without objects"
    return f"95 % interval {x.low:.1f} to {x.high:.1f}"


def group_rows(analysis: Analysis) -> list[list[Cell]]:
    """Return the rows of the table of groups: name, objects, AP, AP50, AP75, recall."""
    rows = [rounded((x.name, x.objects, x.ap, x.ap50, x.ap75, x.recall)) for x in analysis.groups]
    if analysis.boundary is not None:
        boundary, objects = analysis.boundary, analysis.groups[0].objects
        rows.insert(
            1, rounded(("all, by boundaries", objects, boundary.ap(), boundary.ap(AP50), boundary.ap(AP75), ""))
        )
    return rows


def comparison_rows(comparison: Comparison) -> list[list[Cell]]:
    """Return the rows of the table of groups of two models: name, objects, AP of both, and the difference."""
    pairs = zip(comparison.first.groups, comparison.second.groups, strict=True)
    rows = [(a.name, a.objects, a.ap, b.ap, b.ap - a.ap) for a, b in pairs]
    first, second = comparison.first.boundary, comparison.second.boundary
    if first is not None and second is not None:
        rows.insert(1, ("all, by boundaries", rows[0][1], first.ap(), second.ap(), second.ap() - first.ap()))
    return [rounded(x) for x in rows]


def class_rows(analysis: Analysis) -> list[list[Cell]]:
    """Return the rows of the table of classes, under ``CLASS_HEADER``, those with the lowest AP first.

    Classes without objects come last, and those without detections, too, have no row.
    """
    found = [x for x in analysis.classes if x.objects or x.detections]
    return [
        [
            *rounded((x.name, x.objects, x.detections, x.ap, x.ap50, x.ap75, x.boundary_ap, x.recall, x.best_f1)),
            "" if math.isnan(x.best_score) else round(x.best_score, 2),
        ]
        for x in sorted(found, key=lambda x: (math.isnan(x.ap), x.ap))
    ]


def class_difference_rows(comparison: Comparison) -> list[list[Cell]]:
    """Return the rows of the table of classes of two models, those that differ most first.

    They have name, objects, AP of both, and the difference; classes without objects have no row.
    """
    pairs = list(zip(comparison.first.classes, comparison.second.classes, strict=True))
    pairs = sorted((x for x in pairs if x[0].objects), key=lambda x: -abs(x[1].ap - x[0].ap))
    return [rounded((a.name, a.objects, a.ap, b.ap, b.ap - a.ap)) for a, b in pairs]


def analysis_text(analysis: Analysis) -> str:
    """Return the tables of one model for a terminal."""
    groups = short_table(group_rows(analysis), ("group", "objects", "AP", "AP50", "AP75", "recall"))
    rows = [[row[i] for i in IN_TERMINAL] for row in class_rows(analysis)]
    classes = _class_table(rows, [CLASS_HEADER[i] for i in IN_TERMINAL], "with the lowest AP")
    errors, perfect = (
        ", ".join(f"{name} {number_text(value)}" for name, value in x.items())
        for x in (analysis.costs, analysis.oracles)
    )
    ends = f"AP {interval_text(analysis.ap)}\nAP50 lost to errors: {errors}\nAP with perfect parts: {perfect}"
    return f"{about(analysis)}\n\n{groups}\n\n{classes}{ends}"


def comparison_text(comparison: Comparison) -> str:
    """Return the tables of two models for a terminal."""
    header = ("objects", "first", "second", "difference")
    groups = short_table(comparison_rows(comparison), ("AP", *header))
    classes = _class_table(class_difference_rows(comparison), ("class", *header), "that differ most")
    difference = comparison.difference
    end = f"difference {number_text(difference.value, '+.1f')}, {interval_text(difference)}"
    return f"{about(comparison.first, comparison.second)}\n\n{groups}\n\n{classes}{end}"


def _class_table(rows: Sequence[Sequence[Cell]], header: Sequence[str], which: str) -> str:
    """Return the first rows of a table of classes with what comes after it; "" without any."""
    if not rows:
        return ""
    more = f"The {MAX_CLASSES} of {len(rows)} classes {which}; --output and --json have all.\n\n"
    table = short_table(rows[:MAX_CLASSES], header)
    return f"{table}\n\n{more if len(rows) > MAX_CLASSES else ''}"


def rounded(cells: Sequence[Cell]) -> list[Cell]:
    """Return a row with one digit after the point; "" for what does not exist."""
    return [("" if math.isnan(x) else round(x, 1) + 0.0) if isinstance(x, float) else x for x in cells]  # 0, not -0


def number_text(value: float, form: str = ".1f") -> str:
    """Return a number in this form; "-" for one that does not exist."""
    return "-" if math.isnan(value) else format(value, form)


def short_table(rows: Sequence[Sequence[Cell]], header: Sequence[str]) -> str:
    """Return a table for a terminal."""
    from tabulate import tabulate

    texts = [[f"{x:.1f}" if isinstance(x, float) else x for x in row] for row in rows]
    return tabulate(texts, header, disable_numparse=True, colalign=("left", *["right"] * (len(header) - 1)))
