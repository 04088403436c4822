"""The page of an analysis: tables, charts and pictures in one HTML file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ..evaluation.analysis import Analysis, Comparison
from ..evaluation.analysis.errors import MEANINGS as ERROR_MEANINGS
from ..evaluation.analysis.matching import THRESHOLDS
from ..evaluation.analysis.oracles import MEANINGS as ORACLE_MEANINGS
from ..evaluation.analysis.precision import RECALLS
from ..evaluation.analysis.summary import AP50, AP75
from ..visualization import charts
from ..visualization.html_page import Figure, HTMLPage
from ..visualization.labels import Picture
from .analysis_pictures import Painter, differences, mistakes, worst_images
from .analysis_tables import (
    CLASS_HEADER,
    about,
    class_difference_rows,
    class_rows,
    comparison_rows,
    group_rows,
    interval_text,
    number_text,
    rounded,
)

PAIR_WIDTH = 34  # of two images side by side
MAX_CLASS_CURVES = 24  # classes, those with the most objects
MAX_MATRIX = 24  # classes of the matrix, those that are confused most
MAX_CONFUSIONS = 20  # rows of the table of confusions


def make_page(analysis: Analysis, name: str, painter: Painter | None, pictures: int) -> HTMLPage:
    """Return the page of one model.

    Args:
        analysis: Its analysis.
        name: Its name in the title.
        painter: Draws pictures; None leaves them out.
        pictures: How many of the worst images and of the mistakes there are.
    """
    page = HTMLPage(f"Analysis of {name}")
    page.text(about(analysis))
    _add_precision(page, analysis)
    _add_classes(page, analysis)
    _add_errors(page, analysis)
    _add_scores(page, analysis)
    _add_confusion(page, analysis)
    if painter is not None:
        page.heading("Worst images")
        page.text(
            "Ground truth on the left; on the right, detections with a score of at least "
            f"{analysis.score_threshold:.2f}. Quality is the sum of the IoUs of the objects found, divided by their "
            "number plus half of the wrong detections and half of the missed objects."
        )
        page.figures(worst_images(analysis, painter, pictures), filters=True, width=PAIR_WIDTH)
        page.heading("Most confident mistakes")
        page.text("Ground truth on the left, the detection on the right, at most two of an image.")
        page.figures(mistakes(analysis, painter, pictures), filters=True, width=PAIR_WIDTH)
    return page


def make_comparison_page(
    comparison: Comparison, names: tuple[str, str], painter: Painter | None, pictures: int
) -> HTMLPage:
    """Return the page of two models; see :func:`make_page`."""
    page = HTMLPage(f"{names[0]} and {names[1]}")
    both = (comparison.first, comparison.second)
    page.text(about(*both))
    page.heading("Difference")
    difference, samples = comparison.difference, comparison.samples[:, 1] - comparison.samples[:, 0]
    page.text(
        f"AP of the second minus the first: {number_text(difference.value, '+.1f')} points, "
        f"{interval_text(difference)}. The second is better in {100 * (samples > 0).mean():.1f} % of {len(samples)} "
        "samples of the images, drawn with replacement."
    )
    marks = (difference.low, difference.high)
    page.charts([_plot(charts.histogram(samples, "difference in AP", marks), "Samples; 95 % between the dotted lines")])
    page.heading("Average precision")
    page.table(("", "objects", *names, "difference"), comparison_rows(comparison))
    page.charts([_both_bars(comparison, names, "groups")])
    _add_class_differences(page, comparison, names)
    page.heading("Errors")
    page.text("Points of AP at IoU 0.5 that each kind of error costs.")
    page.table(("kind", *names), [rounded([x, *(y.costs[x] for y in both)]) for x in both[0].costs])
    page.charts([_both_bars(comparison, names, "costs")])
    page.heading("What perfect parts would give")
    page.table(("AP", *names), [rounded([x, *(y.oracles[x] for y in both)]) for x in both[0].oracles])
    if painter is not None:
        page.heading("Images that differ most")
        page.text(f"Ground truth, {names[0]} and {names[1]}, from left to right.")
        page.figures(differences(comparison, painter, pictures), filters=True, width=3 * PAIR_WIDTH // 2)
    return page


def _add_precision(page: HTMLPage, analysis: Analysis) -> None:
    page.heading("Average precision")
    page.text(f"AP {number_text(analysis.ap.value)}, {interval_text(analysis.ap)} (images drawn with replacement).")
    page.table(("group", "objects", "AP", "AP50", "AP75", "recall"), group_rows(analysis))
    page.text(
        "By size as in COCO. Neighbors are the other objects whose box overlaps the object's box, and overlap is the "
        "highest IoU of these boxes. Recall is the mean of all thresholds, from 0.5 to 0.95."
    )
    precision = analysis.curves.precision
    present = ~np.isnan(precision[0, 0])
    some = range(0, len(THRESHOLDS) if present.any() else 0, 2)
    lines = {f"IoU {THRESHOLDS[i]:.2f}": (RECALLS, precision[i][:, present].mean(axis=1)) for i in some}
    groups = [x for x in analysis.groups if not math.isnan(x.ap)]
    page.charts(
        [
            _plot(charts.curves(lines, ("recall", "precision")), "Precision and recall, mean of classes"),
            _plot(charts.bars([x.name for x in groups], {"AP": [x.ap for x in groups]}, "AP"), "AP by group"),
        ]
    )


def _add_classes(page: HTMLPage, analysis: Analysis) -> None:
    page.heading("Classes")
    rows = class_rows(analysis)
    if len(rows) < len(analysis.classes):
        page.text(f"{len(analysis.classes) - len(rows)} more classes have neither objects nor detections.")
    page.table(CLASS_HEADER, rows)
    chosen = sorted(
        (i for i, x in enumerate(analysis.classes) if x.objects), key=lambda i: -analysis.classes[i].objects
    )
    precision = analysis.curves.precision
    lines = {
        analysis.classes[k].name: {
            "IoU 0.5": (RECALLS, precision[AP50, :, k]),
            "IoU 0.75": (RECALLS, precision[AP75, :, k]),
            "mean of 0.5 to 0.95": (RECALLS, precision[:, :, k].mean(axis=0)),
        }
        for k in chosen[:MAX_CLASS_CURVES]
    }
    if lines:
        page.charts([_plot(charts.small_curves(lines, ("recall", "precision")), "Classes with the most objects")])


def _add_errors(page: HTMLPage, analysis: Analysis) -> None:
    page.heading("Errors")
    page.text("Errors at IoU 0.5, and the points of AP at IoU 0.5 that are won if only this kind is fixed (TIDE).")
    counts = analysis.errors.counts()
    kinds = [rounded((x, ERROR_MEANINGS[x], counts.get(x, ""), cost)) for x, cost in analysis.costs.items()]
    page.table(("kind", "meaning", "number", "AP50 lost"), kinds)
    lost = charts.bars(list(analysis.costs), {"AP50": list(analysis.costs.values())}, "AP50 lost")
    page.charts([_plot(lost, "Errors")])
    page.heading("What perfect parts would give")
    before = analysis.ap.value
    assumed = [
        rounded((x, ORACLE_MEANINGS[analysis.evaluated.detected.iou_type][x], ap, ap - before))
        for x, ap in analysis.oracles.items()
    ]
    page.table(("assumption", "meaning", "AP", "won"), assumed)
    won = charts.bars(["as it is", *analysis.oracles], {"AP": [before, *analysis.oracles.values()]}, "AP")
    page.charts([_plot(won, "What perfect parts would give")])


def _add_scores(page: HTMLPage, analysis: Analysis) -> None:
    page.heading("Scores")
    thresholds, calibration = analysis.thresholds, analysis.calibration
    page.text(
        f"The highest F1 of all classes together is {100 * float(thresholds.f1().max(initial=0)):.1f} %, at a score of "
        f"{thresholds.best_score():.2f}. Scores and precision differ by "
        f"{number_text(calibration.error, '.3f')} on average (expected calibration error at IoU 0.5)."
    )
    columns = {"precision": thresholds.precision, "recall": thresholds.recall, "F1": thresholds.f1()}
    lines = {name: (thresholds.scores, y) for name, y in columns.items()}
    chart = charts.curves(lines, ("score threshold", "at IoU 0.5"), mark=analysis.score_threshold)
    bins = charts.reliability(calibration.score, calibration.precision, calibration.counts, ("score", "precision"))
    page.charts([_plot(chart, "By score threshold"), _plot(bins, "Reliability of scores")])


def _add_confusion(page: HTMLPage, analysis: Analysis) -> None:
    page.heading("Confusion of classes")
    page.text(
        f"Detections with a score of {analysis.score_threshold:.2f} or more, assigned to objects at IoU 0.5: first "
        "those of the right class, then the others by IoU."
    )
    matrix, names = analysis.confusion.matrix, analysis.evaluated.annotated.names
    last = len(names)
    between = (matrix * (1 - np.eye(last + 1, dtype=np.int64)))[:last, :last]
    order = np.argsort(-between.ravel(), kind="stable")[:MAX_CONFUSIONS].tolist()
    pairs = [divmod(i, last) for i in order if between.flat[i]]
    totals = matrix.sum(axis=1)
    rows = [(names[i], names[j], int(matrix[i, j]), round(100 * float(matrix[i, j] / totals[i]), 1)) for i, j in pairs]
    if rows:
        page.table(("object", "detected as", "number", "share of these objects, %"), rows)
    else:
        page.text("No object is taken for one of another class.")
    confused = between.sum(axis=0) + between.sum(axis=1)
    present = np.flatnonzero(matrix[:last].sum(axis=1) + matrix[:, :last].sum(axis=0))
    chosen = sorted(present[np.argsort(-confused[present], kind="stable")][:MAX_MATRIX].tolist())
    shown = [*chosen, last]
    lines, columns = ([*(names[i] for i in chosen), end] for end in ("background", "missed"))
    picture = charts.matrix(matrix[np.ix_(shown, shown)], (columns, lines), ("detected as", "object"))
    some = f" (the {MAX_MATRIX} classes confused most)" if len(present) > MAX_MATRIX else ""
    caption = f"Share of the objects of each row{some}; the last row is what is detected where no object is"
    page.charts([_plot(picture, caption)])


def _add_class_differences(page: HTMLPage, comparison: Comparison, names: tuple[str, str]) -> None:
    page.heading("Classes")
    page.table(("class", "objects", *names, "difference"), class_difference_rows(comparison))


def _both_bars(comparison: Comparison, names: tuple[str, str], what: str) -> Figure:
    both = (comparison.first, comparison.second)
    if what == "costs":
        rows, values, label = list(both[0].costs), [list(x.costs.values()) for x in both], "AP50 lost"
    else:
        rows, values, label = [x.name for x in both[0].groups], [[y.ap for y in x.groups] for x in both], "AP"
    series: Mapping[str, Sequence[float]] = dict(zip(names, values, strict=True))
    return _plot(charts.bars(rows, series, label), label)


def _plot(picture: Picture, caption: str) -> Figure:
    return Figure(picture, caption, lossless=True)
