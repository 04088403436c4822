"""Which grids and size ranges fit the objects of a dataset."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from detectron2.config import CfgNode

from ..suggestions import InputObjects, Suggestion, best_option, first_enough, quantiles
from .targets import assign_cells, last_claims, levels_of_boxes

FACTORS = (1.25, 1.5, 2.0)  # by which finer grids are tried
ENOUGH = 0.01  # share of objects that may share cells before finer grids, which cost time, are tried
OVERLAP = 2.0  # upper end of a range over the lower end of the next, as in the published configs

UNIT = 1 << 20  # side of the frame that grids of all inputs span

Ranges = list[tuple[int, int]]


def suggest(cfg: CfgNode, objects: InputObjects, node: str = "SOLOV2") -> list[Suggestion]:
    """Return suggestions of ``SCALE_RANGES`` and ``NUM_GRIDS``.

    Args:
        cfg: Config of the model.
        objects: At least one.
        node: Group of its options below ``MODEL``.
    """
    options = cfg.MODEL[node]
    ranges = [(int(a), int(b)) for a, b in options.SCALE_RANGES]
    grids, sigma = [int(x) for x in options.NUM_GRIDS], options.SIGMA
    ladder = quantile_ranges(objects, len(ranges), ranges[-1][1])
    better, now, then = best_option(ranges, [ladder], lambda x: uncovered(objects, x))
    levels = tuple(levels_of_boxes(objects.boxes, ranges).double().mean(0).tolist())
    measure = "of the objects are outside of all ranges"
    found = [Suggestion(f"MODEL.{node}.SCALE_RANGES", ranges, better, "uncovered", measure, now, then, levels)]

    def lost(x: Sequence[int]) -> float:
        return collided(objects, x, better, sigma)

    finer = [[round(f * x) for x in grids] for f in FACTORS]
    chosen, _, then = first_enough(grids, finer, lost, ENOUGH)
    now = collided(objects, grids, ranges, sigma)
    measure = "of the objects have no cell of their own"
    return [*found, Suggestion(f"MODEL.{node}.NUM_GRIDS", grids, chosen, "collide", measure, now, then)]


def quantile_ranges(objects: InputObjects, levels: int, highest: int) -> Ranges:
    """Return ranges that overlap as the published ones do and give each level about as many objects."""
    inner = quantiles(objects.sizes, levels - 1)
    edges = [1.0, *inner, float(highest)]
    half = math.sqrt(OVERLAP)
    ranges = [(max(1, round(a / half)), max(2, round(b * half))) for a, b in pairwise(edges)]
    ranges[0] = (1, ranges[0][1])
    ranges[-1] = (ranges[-1][0], max(highest, math.ceil(objects.sizes.max().item())))
    return ranges


def uncovered(objects: InputObjects, ranges: Sequence[tuple[float, float]]) -> float:
    """Return the share of objects whose size is in no range."""
    return 1 - levels_of_boxes(objects.boxes, ranges).any(1).double().mean().item()


def collided(
    objects: InputObjects, num_grids: Sequence[int], ranges: Sequence[tuple[float, float]], sigma: float
) -> float:
    """Return the share of objects that have cells, but lose them all to objects after them.

    The centers of boxes stand for the centers of masks.
    """
    sizes = objects.boxes[:, 2:] - objects.boxes[:, :2]
    areas = sizes.prod(1).ceil().long().clamp(min=1)
    # A grid spans the input of an image; boxes are moved to a common one
    scale = (1 / objects.input_sizes).repeat(1, 2) * UNIT
    boxes = objects.boxes * scale
    moments = ((boxes[:, :2] + boxes[:, 2:]) / 2 * areas[:, None]).round().long()
    on_level = levels_of_boxes(objects.boxes, ranges)
    instances, cells = assign_cells(
        boxes, areas, moments, (UNIT, UNIT), num_grids, [(0, math.inf)] * len(num_grids), sigma
    )
    num_cells = sum(s * s for s in num_grids)
    ends = torch.tensor(num_grids).square().cumsum(0)
    levels = torch.bucketize(cells, ends, right=True)
    keep = on_level[instances, levels]
    instances, cells = instances[keep], cells[keep]
    _, places = (objects.images[instances] * num_cells + cells).unique(return_inverse=True)
    owners = last_claims(instances, places, int(places.max()) + 1 if len(places) else 0)
    has_cells = torch.zeros(len(areas), dtype=torch.bool).index_fill(0, instances, True)
    owns = torch.zeros_like(has_cells).index_fill(0, owners, True)
    return (has_cells & ~owns).double().mean().item()
