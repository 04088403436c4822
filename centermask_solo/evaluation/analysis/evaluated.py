"""The detections of a dataset, matched with its ground truth once: what all other analyses start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .groups import Group, make_groups
from .matching import Matches, match, rank_in_cells, same_class
from .objects import Annotated, Bools, Detected, Ints
from .overlaps import Pairs, boundary_overlaps, find_overlaps
from .precision import Curves, Outcomes, accumulate, outcomes

MAX_DETECTIONS = 100  # per image and class, in the official metrics of COCO


@dataclass(frozen=True)
class Evaluated:
    """Matched detections.

    Attributes:
        annotated: Ground truth.
        detected: Detections.
        pairs: All pairs of a detection that counts and an object, of whatever classes.
        counted: (D,) whether each detection is among the best of its image and class.
        groups: Groups of objects; the first one has all.
        matches: Matches in each group.
    """

    annotated: Annotated
    detected: Detected
    pairs: Pairs
    counted: Bools
    groups: Sequence[Group]
    matches: Matches

    def ignored(self, group: int = 0) -> Bools:
        """Return (G,) which objects are ignored in a group."""
        return self.annotated.crowds | ~self.groups[group].objects

    def outcome(self, group: int = 0) -> Outcomes:
        """Return what became of the detections in a group."""
        outside = ~self.groups[group].detections
        return outcomes(self.matches, group, len(self.detected), self.ignored(group), outside)

    def num_objects(self, group: int = 0) -> Ints:
        """Return (K,) the number of objects of each class in a group."""
        return np.bincount(self.annotated.classes[~self.ignored(group)], minlength=len(self.annotated.names))

    def curves(self, group: int = 0) -> Curves:
        """Return precision and recall of the classes in a group."""
        detected, num = self.detected, self.num_objects(group)
        return accumulate(self.outcome(group), detected.classes, detected.scores, self.counted, num, len(num))

    @cached_property
    def found_by(self) -> Ints:
        """(D,) the object that each detection finds at IoU 0.5 among all, crowds included; -1 for none."""
        found = np.full(len(self.detected), -1, dtype=np.int64)
        found[self.matches.det] = self.matches.gt[0, 0]
        return found


def evaluate_detections(
    annotated: Annotated,
    detected: Detected,
    *,
    max_detections: int = MAX_DETECTIONS,
    pairs: Pairs | None = None,
    groups: Sequence[Group] | None = None,
) -> Evaluated:
    """Return matched detections.

    Args:
        annotated: Ground truth.
        detected: Detections.
        max_detections: How many detections of an image and class count; of an image, as in LVIS's metrics, where images
            are not annotated for all classes. Others than of these classes do not count there.
        pairs: All pairs, of whatever classes (default: those that overlap).
        groups: Groups of objects, the first one of all (default: also by size and by crowding).
    """
    rank = rank_in_cells(detected.images, detected.classes, detected.scores)
    groups = make_groups(annotated, detected) if groups is None else groups
    counted = rank < max_detections
    if annotated.federation is not None:
        known, exhaustive = (x[detected.images, detected.classes] for x in annotated.federation)
        counted = known & (rank_in_cells(detected.images, 0 * detected.classes, detected.scores) < max_detections)
        groups = [x._replace(detections=x.detections & exhaustive) for x in groups]
    pairs = find_overlaps(annotated, detected) if pairs is None else pairs
    pairs = pairs.chosen(counted[pairs.det])
    ignored = np.stack([annotated.crowds | ~x.objects for x in groups])
    matches = match(same_class(pairs, annotated, detected), detected, rank, annotated.crowds, ignored)
    return Evaluated(annotated, detected, pairs, counted, groups, matches)


def by_boundaries(evaluated: Evaluated) -> Evaluated:
    """Return the same detections of masks, matched by the smaller of mask IoU and boundary IoU, in the first group."""
    annotated, detected = evaluated.annotated, evaluated.detected
    pairs = same_class(evaluated.pairs, annotated, detected)
    pairs = boundary_overlaps(annotated, detected, pairs.chosen(pairs.iou >= 0.5))
    rank = rank_in_cells(detected.images, detected.classes, detected.scores)
    matches = match(pairs, detected, rank, annotated.crowds, evaluated.ignored()[None])
    return Evaluated(annotated, detected, pairs, evaluated.counted, evaluated.groups[:1], matches)
