"""All analyses of the detections of one model, and of the difference between two, as numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import errors as error_kinds
from .bootstrap import Interval, bootstrap, interval
from .calibration import Calibration, calibrate
from .confusion import AtThresholds, Confusion, by_threshold, confuse
from .errors import Errors, costs, find_errors
from .evaluated import MAX_DETECTIONS, Evaluated, by_boundaries, evaluate_detections
from .objects import Annotated, Detected, Floats
from .oracles import oracles
from .precision import Curves, percent, threshold_index
from .worst import ImageQuality, confident_mistakes, image_quality

AP50, AP75 = threshold_index(0.5), threshold_index(0.75)
DIGITS = 4  # of numbers in the json


@dataclass(frozen=True)
class ClassRow:
    """The figures of a class, in percent but for the score; nan where there are no objects.

    Attributes:
        name: Its name.
        objects: Number of its objects, without crowds.
        detections: Number of its detections that count.
        ap: Average precision.
        ap50: The same at IoU 0.5.
        ap75: The same at IoU 0.75.
        boundary_ap: Average precision by boundaries; nan for boxes.
        recall: Mean recall of all detections over the thresholds.
        best_f1: The highest harmonic mean of precision and recall at IoU 0.5.
        best_score: The score threshold that gives it.
    """

    name: str
    objects: int
    detections: int
    ap: float
    ap50: float
    ap75: float
    boundary_ap: float
    recall: float
    best_f1: float
    best_score: float


@dataclass(frozen=True)
class GroupRow:
    """The figures of a group of objects, in percent; nan without objects."""

    name: str
    objects: int
    ap: float
    ap50: float
    ap75: float
    recall: float


@dataclass(frozen=True)
class Analysis:
    """What :func:`analyze_detections` finds.

    Attributes:
        evaluated: The matched detections.
        curves: Precision and recall of all classes.
        boundary: The same by boundaries; None for boxes.
        classes: The figures of each class.
        groups: Those of each group of objects, the first one of all.
        errors: The errors at IoU 0.5.
        costs: Points of AP50 that each kind of error costs.
        oracles: Average precision, in percent, under each assumption.
        calibration: Scores against precision.
        thresholds: Precision and recall by score threshold.
        score_threshold: The one for ``confusion`` and ``quality``.
        confusion: Which classes are taken for which.
        quality: How well each image is segmented.
        ap: The average precision with its interval.
        max_detections: How many detections of an image and class count.
    """

    evaluated: Evaluated
    curves: Curves
    boundary: Curves | None
    classes: list[ClassRow]
    groups: list[GroupRow]
    errors: Errors
    costs: dict[str, float]
    oracles: dict[str, float]
    calibration: Calibration
    thresholds: AtThresholds
    score_threshold: float
    confusion: Confusion
    quality: ImageQuality
    ap: Interval
    max_detections: int

    def to_json(self) -> dict[str, Any]:
        """Return all numbers as plain lists and dicts; null for those that do not exist."""
        annotated, detected = self.evaluated.annotated, self.evaluated.detected
        mistakes = confident_mistakes(self.evaluated, self.errors, 100)
        kinds = error_kinds.KINDS
        found = {
            "iou_type": detected.iou_type,
            "images": len(annotated.records),
            "objects": int((~annotated.crowds).sum()),
            "detections": len(detected),
            "max_detections": self.max_detections,
            "AP": self.ap._asdict(),
            "boundary_AP": None if self.boundary is None else self.boundary.ap(),
            "groups": [vars(x) for x in self.groups],
            "classes": [vars(x) for x in self.classes],
            "errors": {"counts": self.errors.counts(), "AP50_lost": self.costs},
            "oracles": self.oracles,
            "calibration": self.calibration._asdict(),
            "thresholds": _thinned(self.thresholds),
            "score_threshold": self.score_threshold,
            "confusion": {"classes": [*annotated.names, "background"], "counts": self.confusion.matrix},
            "precision_at_recall": dict(zip(annotated.names, self.curves.precision.mean(axis=0).T, strict=True)),
            "worst_images": [
                {"image_id": annotated.records[i]["id"], "file_name": annotated.records[i]["file_name"]}
                | {key: getattr(self.quality, key)[i] for key in self.quality._fields}
                for i in self.quality.worst(100)
            ],
            "confident_mistakes": [
                {
                    "image_id": annotated.records[detected.images[i]]["id"],
                    "class": annotated.names[detected.classes[i]],
                    "score": detected.scores[i],
                    "kind": kinds[self.errors.kind[i]],
                    "box": detected.boxes[i],
                }
                for i in mistakes
            ],
        }
        numbers: dict[str, Any] = plain(found)
        return numbers


def analyze_detections(
    annotated: Annotated,
    detected: Detected,
    *,
    max_detections: int = MAX_DETECTIONS,
    score_threshold: float | None = None,
) -> Analysis:
    """Return all analyses of the detections of one model.

    Args:
        annotated: Ground truth.
        detected: Detections.
        max_detections: How many detections of an image and class count; of an image in LVIS's data.
        score_threshold: For the confusion of classes and the quality of images (default: that of the highest F1).
    """
    evaluated = evaluate_detections(annotated, detected, max_detections=max_detections)
    return _analyze(evaluated, bootstrap([evaluated])[:, 0], max_detections, score_threshold)


def _analyze(evaluated: Evaluated, samples: Floats, max_detections: int, score_threshold: float | None) -> Analysis:
    curves = evaluated.curves()
    boundary = by_boundaries(evaluated).curves() if evaluated.detected.iou_type == "segm" else None
    errors = find_errors(evaluated)
    thresholds = by_threshold(evaluated)
    score_threshold = thresholds.best_score() if score_threshold is None else score_threshold
    confusion = confuse(evaluated, score_threshold)
    return Analysis(
        evaluated=evaluated,
        curves=curves,
        boundary=boundary,
        classes=list(_class_rows(evaluated, curves, boundary)),
        groups=list(_group_rows(evaluated)),
        errors=errors,
        costs=costs(evaluated, errors),
        oracles={name: x.ap() for name, x in oracles(evaluated, max_detections).items()},
        calibration=calibrate(evaluated),
        thresholds=thresholds,
        score_threshold=score_threshold,
        confusion=confusion,
        quality=image_quality(evaluated, confusion),
        ap=interval(curves.ap(), samples),
        max_detections=max_detections,
    )


@dataclass(frozen=True)
class Comparison:
    """Two models on the same images.

    Attributes:
        first: The first model.
        second: The second model.
        difference: Average precision of the second minus that of the first, in points, with its interval.
        samples: (S, 2) average precision of both on the same samples of the images.
    """

    first: Analysis
    second: Analysis
    difference: Interval
    samples: Floats

    def to_json(self) -> dict[str, Any]:
        """Return all numbers as plain lists and dicts."""
        gap = self.samples[:, 1] - self.samples[:, 0]
        return {
            "first": self.first.to_json(),
            "second": self.second.to_json(),
            "AP_difference": plain(self.difference._asdict()),
            "share_of_samples_above_zero": plain(float((gap > 0).mean())),
        }


def compare_detections(
    annotated: Annotated,
    first: Detected,
    second: Detected,
    *,
    max_detections: int = MAX_DETECTIONS,
    score_threshold: float | None = None,
) -> Comparison:
    """Return the analyses of two models and the difference between them; see :func:`analyze_detections`."""
    evaluated = [evaluate_detections(annotated, x, max_detections=max_detections) for x in (first, second)]
    samples = bootstrap(evaluated)
    a, b = (_analyze(x, samples[:, i], max_detections, score_threshold) for i, x in enumerate(evaluated))
    return Comparison(a, b, interval(b.ap.value - a.ap.value, samples[:, 1] - samples[:, 0]), samples)


def _class_rows(evaluated: Evaluated, curves: Curves, boundary: Curves | None) -> Iterator[ClassRow]:
    names, detected = evaluated.annotated.names, evaluated.detected
    objects = evaluated.num_objects().tolist()
    detections = np.bincount(detected.classes[evaluated.counted], minlength=len(names)).tolist()
    columns = [curves.ap_by_class(), curves.ap_by_class(AP50), curves.ap_by_class(AP75)]
    columns.append(np.full(len(names), np.nan) if boundary is None else boundary.ap_by_class())
    columns.append(100 * curves.recall.mean(axis=0))
    for k, name in enumerate(names):
        thresholds = by_threshold(evaluated, k)
        f1, score = 100 * float(thresholds.f1().max(initial=0)), thresholds.best_score()
        ap, ap50, ap75, boundary_ap, recall = (float(x[k]) for x in columns)
        best = (f1, score) if objects[k] else (math.nan, math.nan)
        yield ClassRow(name, objects[k], detections[k], ap, ap50, ap75, boundary_ap, recall, *best)


def _group_rows(evaluated: Evaluated) -> Iterator[GroupRow]:
    for i, group in enumerate(evaluated.groups):
        curves = evaluated.curves(i)
        recall = percent(curves.recall[~np.isnan(curves.recall)])
        figures = (curves.ap(), curves.ap(AP50), curves.ap(AP75), recall)
        yield GroupRow(group.name, int(evaluated.num_objects(i).sum()), *figures)


def _thinned(thresholds: AtThresholds, count: int = 101) -> dict[str, Floats]:
    """Return the curves of evenly spaced scores: of all detections from each of them on."""
    scores = np.linspace(1, 0, count)
    place = np.searchsorted(-thresholds.scores, -scores, side="right") - 1
    columns = {"precision": thresholds.precision, "recall": thresholds.recall, "f1": thresholds.f1()}
    some = {key: np.where(place >= 0, x[place], np.nan) if len(x) else scores * np.nan for key, x in columns.items()}
    return {"score": scores, **some}


def plain(value: Any) -> Any:
    """Return numbers, arrays, dicts and lists for JSON, rounded; None for what is not finite."""
    if isinstance(value, dict):
        return {key: plain(x) for key, x in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(x) for x in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return round(value, DIGITS) if math.isfinite(value) else None
    return value
