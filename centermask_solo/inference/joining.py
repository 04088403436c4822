"""One instance in place of its parts in several tiles of an image."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from detectron2.structures import Boxes, Instances

from ..structures.compact_masks import RLEMasks
from ..structures.mask_formats import without_masks
from ..structures.rle_codes import EMPTY, Window, decode_window, merge_codes, window_iou

JOIN_IOU = 0.5  # of two masks in the overlap of their tiles, from which on they are one instance
Rectangle = tuple[int, int, int, int]  # left, top, right, bottom


def join(found: Sequence[Instances], rectangles: Sequence[Rectangle]) -> Instances:
    """Return the instances of all tiles, in the frame of the image, where those of one object are one, best first.

    Two instances of different tiles and of one class are one object if their masks (or else their boxes) in the overlap
    of these tiles have an IoU of at least 0.5. The joined one has the union of the masks, and the other fields of its
    part with the best score.

    Args:
        found: Instances of each tile, in the frame of the image, with ``pred_masks`` as ``RLEMasks`` if there are any.
        rectangles: The tiles.
    """
    instances = Instances.cat(list(found)) if len(found) > 1 else found[0]
    if not len(instances):
        return instances
    starts = list(itertools.accumulate((len(x) for x in found), initial=0))
    parents = list(range(len(instances)))
    for a, b, overlap in _neighbors(rectangles):
        for i, j in _same(instances, range(starts[a], starts[a + 1]), range(starts[b], starts[b + 1]), overlap):
            parents[_root(parents, i)] = _root(parents, j)
    groups: dict[int, list[int]] = {}
    for i in instances.scores.argsort(descending=True, stable=True).tolist():
        groups.setdefault(_root(parents, i), []).append(i)
    best = without_masks(instances)[torch.tensor([rows[0] for rows in groups.values()])]
    if instances.has("pred_masks"):
        codes = instances.pred_masks.codes
        best.pred_masks = RLEMasks(
            [merge_codes([codes[i] for i in rows]) for rows in groups.values()], instances.image_size
        )
        best.pred_boxes = Boxes(best.pred_masks.boxes())
    else:
        boxes = instances.pred_boxes.tensor
        joined = [torch.cat([boxes[rows, :2].amin(0), boxes[rows, 2:].amax(0)]) for rows in groups.values()]
        best.pred_boxes = Boxes(torch.stack(joined))
    return best


class _Part(NamedTuple):
    """The part of an instance in the overlap of two tiles."""

    row: int
    class_index: int
    window: Window


def _same(instances: Instances, rows: range, others: range, overlap: Rectangle) -> Iterator[tuple[int, int]]:
    """Yield the pairs of instances of two tiles that are the same in the overlap of these."""
    theirs = _parts(instances, others, overlap)
    for ours in _parts(instances, rows, overlap) if theirs else ():
        for part in theirs:
            if ours.class_index == part.class_index and window_iou(ours.window, part.window) >= JOIN_IOU:
                yield ours.row, part.row


def _parts(instances: Instances, rows: range, overlap: Rectangle) -> list[_Part]:
    x0, y0, x1, y1 = overlap
    boxes = instances.pred_boxes.tensor
    parts = []
    for row in rows:
        left, top, right, bottom = boxes[row].tolist()
        if min(right, x1) <= max(left, x0) or min(bottom, y1) <= max(top, y0):
            continue
        if instances.has("pred_masks"):
            window = decode_window(instances.pred_masks.codes[row])
        else:
            size = (max(round(bottom - top), 1), max(round(right - left), 1))
            window = Window(round(left), round(top), np.ones(size, np.bool_))
        window = _cut(window, overlap)
        if window.pixels.any():
            parts.append(_Part(row, int(instances.pred_classes[row]), window))
    return parts


def _cut(window: Window, rectangle: Rectangle) -> Window:
    """Return the part of a mask in a rectangle."""
    x0, y0, x1, y1 = rectangle
    left, top = max(window.left, x0), max(window.top, y0)
    rows = slice(top - window.top, max(y1 - window.top, 0))
    columns = slice(left - window.left, max(x1 - window.left, 0))
    return Window(left, top, window.pixels[rows, columns]) if left < x1 and top < y1 else EMPTY


def _neighbors(rectangles: Sequence[Rectangle]) -> Iterator[tuple[int, int, Rectangle]]:
    """Yield the pairs of tiles that overlap, and where."""
    for (a, ours), (b, theirs) in itertools.combinations(enumerate(rectangles), 2):
        left, top = max(ours[0], theirs[0]), max(ours[1], theirs[1])
        right, bottom = min(ours[2], theirs[2]), min(ours[3], theirs[3])
        if left < right and top < bottom:
            yield a, b, (left, top, right, bottom)


def _root(parents: list[int], row: int) -> int:
    """Return the row that stands for all those of an object; ways to it become shorter."""
    while parents[row] != row:
        parents[row] = parents[parents[row]]
        row = parents[row]
    return row
