"""Panoptic quality.

Source: Kirillov et al., "Panoptic Segmentation", https://arxiv.org/abs/1801.00868, section 4.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..data.formats.panoptic import VOID


@dataclass
class PanopticCounts:
    """Matched and unmatched segments by category; counts of several images can be added."""

    iou: defaultdict[int, float] = field(default_factory=lambda: defaultdict(float))  # sum over the matched pairs
    matched: Counter[int] = field(default_factory=Counter)
    false_positives: Counter[int] = field(default_factory=Counter)
    missed: Counter[int] = field(default_factory=Counter)

    def __iadd__(self, other: PanopticCounts) -> PanopticCounts:
        for category, iou in other.iou.items():
            self.iou[category] += iou
        self.matched.update(other.matched)
        self.false_positives.update(other.false_positives)
        self.missed.update(other.missed)
        return self

    def quality(self, categories: Iterable[int]) -> tuple[float, float, float]:
        """Return PQ, SQ and RQ in percent, means over the categories that occur; nan if none does."""
        qualities = []
        for x in categories:
            matched = self.matched[x]
            total = matched + (self.false_positives[x] + self.missed[x]) / 2
            if total:
                qualities.append((self.iou[x] / total, self.iou[x] / matched if matched else 0.0, matched / total))
        if not qualities:
            return math.nan, math.nan, math.nan
        pq, sq, rq = 100 * np.mean(qualities, axis=0)
        return float(pq), float(sq), float(rq)

    def qualities(self, is_thing: Mapping[int, bool]) -> dict[str, float]:
        """Return PQ, SQ and RQ of all categories, of things ("_th") and of stuff ("_st"), in percent.

        Args:
            is_thing: Whether each category is a thing.
        """
        groups = {
            "": list(is_thing),
            "_th": [x for x, thing in is_thing.items() if thing],
            "_st": [x for x, thing in is_thing.items() if not thing],
        }
        return {
            f"{name}{suffix}": value
            for suffix, categories in groups.items()
            for name, value in zip(("PQ", "SQ", "RQ"), self.quality(categories), strict=True)
        }


def match_segments(
    gt_ids: NDArray[np.int64],
    gt_categories: Mapping[int, int],
    crowds: Set[int],
    pred_ids: NDArray[np.int64],
    pred_categories: Mapping[int, int],
) -> PanopticCounts:
    """Match the segments of an image with IoU above 0.5, which makes matches unique.

    Void pixels of the ground truth count in no IoU. Crowds are not matched. An unmatched predicted segment is ignored
    if more than half of it is void or in crowds of its category.

    Args:
        gt_ids: Segment ids of the ground truth, (H, W); 0 is void.
        gt_categories: Category of each segment id.
        crowds: The segment ids that are crowds.
        pred_ids: Predicted segment ids, (H, W), at least 0; those not in ``pred_categories`` are void.
        pred_categories: Category of each predicted segment id.
    """
    pairs, sizes = np.unique((gt_ids << 32) + pred_ids, return_counts=True)
    overlaps = {divmod(pair, 1 << 32): n for pair, n in zip(pairs.tolist(), sizes.tolist(), strict=True)}
    gt_areas: Counter[int] = Counter()
    pred_areas: Counter[int] = Counter()
    for (g, p), n in overlaps.items():
        gt_areas[g] += n
        pred_areas[p] += n
    counts = PanopticCounts()
    # Matches
    matched_gt: set[int] = set()
    matched_pred: set[int] = set()
    for (g, p), n in overlaps.items():
        category = gt_categories.get(g)
        if category is None or g in crowds or category != pred_categories.get(p):
            continue
        iou = n / (gt_areas[g] + pred_areas[p] - n - overlaps.get((VOID, p), 0))
        if iou > 0.5:
            matched_gt.add(g)
            matched_pred.add(p)
            counts.matched[category] += 1
            counts.iou[category] += iou
    # What is left
    counts.missed.update(c for g, c in gt_categories.items() if g not in matched_gt and g not in crowds)
    for p, category in pred_categories.items():
        if p in matched_pred or not pred_areas[p]:
            continue
        ignored = overlaps.get((VOID, p), 0)
        ignored += sum(overlaps.get((g, p), 0) for g in crowds if gt_categories[g] == category)
        if ignored / pred_areas[p] <= 0.5:
            counts.false_positives[category] += 1
    return counts
