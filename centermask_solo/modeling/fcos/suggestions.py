"""Which distances the levels should regress for the objects of a dataset."""

from __future__ import annotations

import math
from collections.abc import Sequence

from detectron2.config import CfgNode

from ..suggestions import InputObjects, Suggestion, best_option, quantiles, strides_of
from .targets import match_locations, regression_ranges

MAX_IMAGES = 300  # that are matched; shares hardly change with more
FACTORS = (0.5, 0.25, 2.0)  # by which the bounds are scaled on trial


def suggest(cfg: CfgNode, objects: InputObjects) -> list[Suggestion]:
    """Return a suggestion of ``SIZES_OF_INTEREST``; none if the strides of the levels are unknown.

    Args:
        cfg: Config of the model.
        objects: At least one.
    """
    options = cfg.MODEL.FCOS
    strides = strides_of(options.IN_FEATURES)
    if strides is None:
        return []
    radius = options.POS_RADIUS if options.CENTER_SAMPLE else None
    bounds = list(options.SIZES_OF_INTEREST)
    longest = (objects.boxes[:, 2:] - objects.boxes[:, :2]).amax(1)
    ladder = sorted({round(x / 2) for x in quantiles(longest, len(bounds))})  # distances from the center
    candidates = [[x * f for x in bounds] for f in FACTORS]
    if len(ladder) == len(bounds) and ladder[0] > 0:
        candidates.append(ladder)
    better, now, then = best_option(bounds, candidates, lambda x: share_of_levels(objects, strides, x, radius)[0])
    key, measure = "MODEL.FCOS.SIZES_OF_INTEREST", "of the objects are learned by no location"
    levels = tuple(share_of_levels(objects, strides, bounds, radius)[1:])
    return [Suggestion(key, bounds, better, "uncovered", measure, now, then, levels)]


def share_of_levels(
    objects: InputObjects, strides: Sequence[int], sizes_of_interest: Sequence[float], radius: float | None
) -> list[float]:
    """Return the share of objects that no location is assigned to, then the share on each level.

    Args:
        objects: At least one.
        strides: Stride of each level in input pixels.
        sizes_of_interest: Bounds between the levels.
        radius: Radius of center sampling in strides; None for the whole box.
    """
    numbers, counts = objects.images.unique_consecutive(return_counts=True)
    ends, ranges = counts.cumsum(0).tolist(), regression_ranges(sizes_of_interest)
    found, total = [0] * (1 + len(strides)), 0
    for i in range(0, len(numbers), max(1, len(numbers) // MAX_IMAGES)):
        end = ends[i]
        boxes = objects.boxes[end - int(counts[i]) : end].float()
        width, height = objects.input_sizes[end - 1].tolist()
        sizes = [(math.ceil(height / s), math.ceil(width / s)) for s in strides]
        matched = match_locations(boxes, sizes, strides, ranges, radius)
        levels = [{*x.unique().tolist()} - {len(boxes)} for x in matched.split([h * w for h, w in sizes])]
        missing = len(boxes) - len(set().union(*levels))
        found = [x + y for x, y in zip(found, [missing, *map(len, levels)], strict=True)]
        total += len(boxes)
    return [x / total for x in found]
