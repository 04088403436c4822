"""Whether a score of 0.8 means that 80 % of such detections are right."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .evaluated import Evaluated
from .objects import Floats, Ints

NUM_BINS = 10


class Calibration(NamedTuple):
    """Detections in bins of equal width by score.

    Attributes:
        counts: (B,) detections in each bin.
        score: (B,) their mean score; nan without any.
        precision: (B,) the share of them that finds an object at IoU 0.5; nan without any.
        error: Expected calibration error: the mean of the difference of the two, weighted by the counts; nan without
            detections.
    """

    counts: Ints
    score: Floats
    precision: Floats
    error: float


def calibrate(evaluated: Evaluated, num_bins: int = NUM_BINS) -> Calibration:
    """Return the calibration of all detections that count.

    Source: Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015 (the error).
    """
    outcome = evaluated.outcome()
    kept = evaluated.counted & ~outcome.ignored[0]
    return calibration_of(evaluated.detected.scores[kept], outcome.found[0, kept].astype(np.float64), num_bins)


def calibration_of(scores: Floats, right: Floats, num_bins: int = NUM_BINS) -> Calibration:
    """Return the calibration of scores.

    Args:
        scores: (D,) in 0..1; others count as in the outermost bins.
        right: (D,) 1 for detections that are right, else 0.
        num_bins: B.
    """
    bins = (scores * num_bins).astype(np.int64).clip(0, num_bins - 1)
    counts = np.bincount(bins, minlength=num_bins)
    sums = [np.bincount(bins, weights=x, minlength=num_bins) for x in (scores, right)]
    with np.errstate(invalid="ignore"):
        score, precision = (x / counts for x in sums)
    gap = np.abs(sums[0] - sums[1]).sum()
    return Calibration(counts, score, precision, float(gap / len(scores)) if len(scores) else float("nan"))
