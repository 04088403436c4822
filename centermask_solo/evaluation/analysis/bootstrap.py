"""How far an average precision, or the difference of two, can be trusted: images drawn anew, again and again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from .evaluated import Evaluated
from .objects import Floats, Ints
from .overlaps import BAR
from .precision import RECALLS, order_by_class

NUM_SAMPLES = 1000
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A figure with the interval that contains it in 95 % of the samples.

    Attributes:
        value: Of all images.
        low: Lower bound.
        high: Upper bound.
    """

    value: float
    low: float
    high: float


def interval(value: float, samples: Floats) -> Interval:
    """Return the percentile interval of samples; nan without any that is a number."""
    samples = samples[~np.isnan(samples)]
    tails = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    low, high = np.quantile(samples, tails).tolist() if len(samples) else (float("nan"),) * 2
    return Interval(value, low, high)


def bootstrap(models: Sequence[Evaluated], num_samples: int = NUM_SAMPLES, seed: int = 0) -> Floats:
    """Return (num_samples, models) average precision in percent on images drawn with replacement, the same for all.

    Args:
        models: Matched detections of the same images.
        num_samples: How often as many images as there are, are drawn.
        seed: Of the random numbers.
    """
    weighted = [WeightedAP(x) for x in models]
    num_images = len(models[0].annotated.records)
    rng = np.random.default_rng(seed)
    found = np.zeros((num_samples, len(models)))
    for row in tqdm(found, "samples", **{**BAR, "unit": " samples"}):
        weights = np.bincount(rng.integers(num_images, size=num_images), minlength=num_images)
        row[:] = [x(weights) for x in weighted]
    return found


class WeightedAP:
    """Average precision of images that each count several times, or not at all.

    It is that of COCO's evaluation of as many copies. Only detections that find an object at a threshold, the hits, can
    end a step of a curve, so that the others are summed up once for all thresholds.
    """

    def __init__(self, evaluated: Evaluated) -> None:
        """
        Args:
            evaluated: Matched detections; of the first group.
        """
        detected, outcome = evaluated.detected, evaluated.outcome()
        order = order_by_class(detected.classes, detected.scores)
        order = order[evaluated.counted[order]]
        self._images, classes = detected.images[order], detected.classes[order]
        found, ignored = outcome.found[:, order] & ~outcome.ignored[:, order], outcome.ignored[:, order]
        num_classes = len(evaluated.annotated.names)
        # Curves: of each class and threshold, in this order
        self._num_thresholds = len(found)
        place, threshold = np.nonzero(found.T)
        sort = np.lexsort((place, threshold, classes[place]))
        place, threshold = place[sort], threshold[sort]
        curve = classes[place] * self._num_thresholds + threshold
        self._curve_starts = np.searchsorted(curve, np.arange(num_classes * self._num_thresholds + 1))
        self._hits, self._hit_images, self._curve = place, self._images[place], curve
        class_starts = np.searchsorted(classes, np.arange(num_classes + 1))
        self._class_start = class_starts[classes[place]]
        # Ignored detections of each threshold, all curves in one line, and how many there are before each hit
        self._ignored_place, self._ignored_before = _ignored_before(ignored, place, threshold, self._class_start)
        self._ignored_images = self._images[self._ignored_place]
        single = ~evaluated.annotated.crowds
        self._gt_images, self._gt_classes = evaluated.annotated.images[single], evaluated.annotated.classes[single]
        self._num_classes = num_classes

    def __call__(self, weights: Ints) -> float:
        """Return the average precision in percent where each image counts ``weights`` (I,) times; nan without any."""
        num_objects = np.bincount(self._gt_classes, weights=weights[self._gt_images], minlength=self._num_classes)
        num_objects = np.repeat(num_objects.astype(np.int64), self._num_thresholds)
        present = num_objects > 0
        if not present.any():
            return float("nan")
        # How many detections there are up to each hit, and how many of them are hits
        total = np.concatenate([[0], np.cumsum(weights[self._images])])
        ignored = np.concatenate([[0], np.cumsum(weights[self._ignored_images])])
        before = ignored[self._ignored_before[1]] - ignored[self._ignored_before[0]]
        counted = total[self._hits + 1] - total[self._class_start] - before
        hits = np.cumsum(weights[self._hit_images])
        offset = np.concatenate([[0], hits])[self._curve_starts]
        within = hits - offset[self._curve]
        precision = within / np.maximum(counted, 1)
        # The best precision from each hit on: a larger number added to earlier curves keeps them apart
        apart = 2.0 * (len(self._curve_starts) - self._curve)
        envelope = np.maximum.accumulate((precision + apart)[::-1])[::-1] - apart
        # The first hit that reaches each recall
        need = _hits_needed(num_objects)
        place = np.searchsorted(hits, offset[:-1, None] + np.maximum(need, 1), side="left")
        reached = (place < self._curve_starts[1:, None]) & present[:, None]
        values = np.where(reached, envelope[np.minimum(place, len(envelope) - 1)], 0.0) if len(envelope) else reached
        return 100 * float(values[present].mean())


def _ignored_before(
    ignored: np.ndarray, place: Ints, threshold: Ints, class_start: Ints
) -> tuple[Ints, tuple[Ints, Ints]]:
    """Return the places of ignored detections by threshold, and the range of them from a class's start to each hit."""
    rows, places = np.nonzero(ignored)
    length = ignored.shape[1] + 1
    keys = rows * length + places
    bounds = (np.searchsorted(keys, threshold * length + x) for x in (class_start, place))
    return places, (next(bounds), next(bounds))


def _hits_needed(num_objects: Ints) -> Ints:
    """Return (curves, R) the smallest number of hits whose recall reaches each of ``RECALLS`` in floating point."""
    n = np.maximum(num_objects, 1)[:, None]
    need = np.ceil(RECALLS * n).astype(np.int64)
    need -= (need - 1) / n >= RECALLS
    return need + (need / n < RECALLS)
