"""Check boxes and masks of a few thousand annotations at once."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..formats.coco import Record
from . import rules
from .closer import CloserLook, Measured
from .fields import read_integer
from .findings import Findings, Inspection, Rule, shorten
from .geometry import Bools, Floats, box_iou, is_number, measure_polygons, measure_runs

TOLERANCE = 1.0  # pixels by which coordinates may exceed the image
SLACK = 2.0  # pixels by which a box may differ from the box of its mask
MIN_IOU = 0.5  # of boxes that agree
MIN_AREA = 1e-3  # of a polygon, in pixels
FAR_AWAY = 10.0  # sides of the image by which coordinates may exceed it, or native code would draw endless lines
NORMALIZED_LIMIT = 1.5  # coordinates up to this, in larger images, are those of a normalized object
_FLAT = (array, list)  # of numbers, and of anything else


class Batch:
    """Annotations whose boxes and masks are collected by :meth:`add` and checked by :meth:`measure`."""

    def __init__(self, result: Inspection, closer: CloserLook | None = None) -> None:
        """
        Args:
            result: What findings and repairs are added to.
            closer: Is shown what was measured.
        """
        self._result, self._closer = result, closer
        self._indices: list[int] = []
        self._annotations: list[Record] = []
        self._images: list[Record] = []
        self._boxes: list[list[float]] = []  # zeros for those that are malformed
        self._good_box: list[bool] = []
        self._polygons: list[Sequence[Any]] = []
        self._polygon_owners: list[tuple[int, int]] = []  # row, and number of the polygon among the annotation's
        self._runs: list[Any] = []
        self._run_owners: list[int] = []
        self._faulty_masks: set[int] = set()  # rows
        self._reported: set[tuple[str, int]] = set()

    def __len__(self) -> int:
        return len(self._indices)

    @property
    def _findings(self) -> Findings:
        return self._result.findings

    def add(self, index: int, x: Record, image: Record) -> None:
        """Add an annotation of an image that has a size."""
        row = len(self._indices)
        self._indices.append(index)
        self._annotations.append(x)
        self._images.append(image)
        box = x.get("bbox", [])
        good = type(box) is list and len(box) == 4 and (set(map(type, box)) == {float} or all(map(is_number, box)))
        if not good and "bbox" in x:
            self._report(rules.BOX_FORMAT, row, box)
        self._boxes.append(box if good else [0.0, 0.0, 0.0, 0.0])
        self._good_box.append(good)
        self._add_mask(row, x.get("segmentation"), image)

    def _add_mask(self, row: int, mask: Any, image: Record) -> None:
        if type(mask) is list and mask and all(type(p) is array and len(p) > 5 and not len(p) % 2 for p in mask):
            # Most masks take the short way
            self._result.counts["polygons"] += 1
            self._polygons += mask
            self._polygon_owners += [(row, k) for k in range(len(mask))]
        elif isinstance(mask, list) and any(mask):
            self._result.counts["polygons"] += 1
            self._add_polygons(row, mask)
        elif isinstance(mask, dict) and mask:
            self._result.counts["rles"] += 1
            if not {"size", "counts"} <= set(mask):
                self._fault(rules.SEGMENTATION_TYPE, row, mask)
            elif mask["size"] != [image["height"], image["width"]]:
                rule = rules.RLE_TRANSPOSED if mask["size"] == [image["width"], image["height"]] else rules.RLE_SIZE
                self._fault(rule, row, note=f"{mask['size']}, not {[image['height'], image['width']]}")
            else:
                self._runs.append(mask["counts"])
                self._run_owners.append(row)
        elif not mask or (isinstance(mask, list) and all(isinstance(p, _FLAT) for p in mask)):
            self._result.counts["without_mask"] += 1
            self._result.unmasked.add(self._indices[row])
            self._faulty_masks.add(row)
            self._report(rules.NO_MASK, row, mask)
        else:
            self._fault(rules.SEGMENTATION_TYPE, row, mask)

    def _add_polygons(self, row: int, polygons: list[Any]) -> None:
        if any(isinstance(p, dict) for p in polygons):
            self._fault(rules.RLE_IN_LIST, row, polygons)
        elif not all(isinstance(p, _FLAT) for p in polygons):
            self._fault(rules.POLYGON_FORMAT, row, polygons)
        elif any(isinstance(p[0], list) for p in polygons if p) or (
            len(polygons) > 2 and all(len(p) == 2 for p in polygons)
        ):
            self._fault(rules.POLYGON_PAIRS, row, polygons)
        else:
            short = {k for k, p in enumerate(polygons) if len(p) < 6 or len(p) % 2}
            if short:
                self._report(rules.POLYGON_TOO_SHORT, row, polygons[min(short)])
                self._remove_polygons(row, short)
            for k, p in enumerate(polygons):
                if k not in short:
                    self._polygons.append(p)
                    self._polygon_owners.append((row, k))

    def _remove_polygons(self, row: int, numbers: set[int]) -> None:
        index = self._indices[row]
        removed = self._result.bad_polygons.setdefault(index, set())
        removed |= numbers
        self._faulty_masks.add(row)
        if len(removed) == len(self._annotations[row]["segmentation"]):
            self._result.unmasked.add(index)

    def measure(self) -> None:
        """Check the geometry of all added annotations."""
        if not self._indices:
            return
        self._result.counts["measured"] += len(self)
        sizes = np.array([(x["width"], x["height"]) for x in self._images], dtype=np.float64)
        masks = np.full((len(self), 4), np.nan)  # x0 y0 x1 y1 of the masks that have no fault
        areas = np.zeros(len(self))
        self._measure_polygons(masks, areas, sizes)
        self._measure_runs(masks, areas)
        masks[sorted(self._faulty_masks)] = np.nan
        good = self._check_boxes(masks, sizes)
        if self._closer is not None:
            polygons = [(row, self._polygons[i]) for i, (row, _) in enumerate(self._polygon_owners)]
            polygons = [(row, x) for row, x in polygons if row not in self._faulty_masks]
            areas[sorted(self._faulty_masks)] = np.nan
            measured = Measured(self._annotations, self._images, np.array(self._boxes), good, areas, polygons)
            self._closer.look(measured, self._report)

    def _measure_polygons(self, masks: Floats, mask_areas: Floats, sizes: Floats) -> None:
        numbers, finite, bounds, areas = measure_polygons(self._polygons)
        owners = np.array([row for row, _ in self._polygon_owners], dtype=np.int64)
        beyond = _any(bounds < -TOLERANCE) | _any(bounds[:, 2:] > sizes[owners] + TOLERANCE)
        outside = _any(bounds[:, 2:] <= 0) | _any(bounds[:, :2] >= sizes[owners])
        far = _any(abs(bounds) > FAR_AWAY * sizes[owners].max(axis=1, initial=1, keepdims=True))
        flat = areas < MIN_AREA
        for i in np.flatnonzero(~numbers | ~finite | beyond | flat):
            row, number = self._polygon_owners[i]
            found = self._polygons[i]
            if not numbers[i]:
                self._fault(rules.POLYGON_NUMBERS, row, found)
            elif not finite[i]:
                self._fault(rules.POLYGON_NOT_FINITE, row, found)
            elif far[i]:
                self._fault(rules.FAR_AWAY, row, found)
            else:
                if flat[i]:
                    self._report(rules.POLYGON_NO_AREA, row, found)
                    self._remove_polygons(row, {number})
                if beyond[i]:
                    self._fault(rules.POLYGON_BEYOND, row, found)
                    if outside[i]:
                        self._remove_polygons(row, {number})
        if len(owners):
            np.add.at(mask_areas, owners, areas)
            rows, first = np.unique(owners, return_index=True)
            masks[rows, :2] = np.minimum.reduceat(bounds[:, :2], first)
            masks[rows, 2:] = np.maximum.reduceat(bounds[:, 2:], first)
            normalized = (abs(masks[rows]).max(axis=1) <= NORMALIZED_LIMIT) & (sizes[rows].min(axis=1) > 4)
            for row in set(rows[normalized].tolist()) - self._faulty_masks:
                self._report(rules.NORMALIZED, row, self._annotations[row]["segmentation"])

    def _measure_runs(self, masks: Floats, mask_areas: Floats) -> None:
        images = [self._images[row] for row in self._run_owners]
        decodable, totals, bounds, areas = measure_runs(self._runs, [x["height"] for x in images])
        for i, row in enumerate(self._run_owners):
            pixels = images[i]["width"] * images[i]["height"]
            if not decodable[i]:
                self._fault(rules.RLE_COUNTS, row, self._runs[i])
            elif totals[i] != pixels:
                self._fault(rules.RLE_SUM, row, note=f"a sum of {totals[i]}, not {pixels}")
            elif not areas[i]:
                self._fault(rules.RLE_EMPTY, row, self._runs[i])
                self._result.unmasked.add(self._indices[row])
            else:
                masks[row], mask_areas[row] = bounds[i], areas[i]

    def _check_boxes(self, masks: Floats, sizes: Floats) -> Bools:
        """Return which boxes are inside their images and not normalized."""
        boxes = np.array(self._boxes, dtype=np.float64)
        good = np.array(self._good_box)
        has_mask = _all(np.isfinite(masks))
        single = has_mask & np.array([not read_integer(x.get("iscrowd")) for x in self._annotations])
        masks = np.clip(masks, 0, np.tile(sizes, 2))
        with np.errstate(invalid="ignore", over="ignore"):
            corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        # Each box has at most the first of these faults
        left = good.copy()
        left &= ~self._report_where(rules.BOX_NOT_FINITE, left & ~_all(np.isfinite(corners)), boxes)
        far = _any(abs(corners) > FAR_AWAY * sizes.max(axis=1, keepdims=True))
        left &= ~self._report_where(rules.FAR_AWAY, left & far, boxes)
        as_corners = single & _all(abs(boxes - masks) <= SLACK) & _any(abs(corners - masks) > SLACK)
        left &= ~self._report_where(rules.CORNER_BOX, left & as_corners, boxes)
        no_area = left & _any(boxes[:, 2:] <= 0)
        outside = left & ~no_area & _any((corners[:, :2] >= sizes) | (corners[:, 2:] <= 0))
        inverted = no_area & _any(boxes[:, 2:] < 0)
        self._report_where(rules.BOX_INVERTED, inverted, boxes)
        self._report_where(rules.BOX_NO_AREA, no_area & ~inverted, boxes)
        self._report_where(rules.BOX_OUTSIDE, outside, boxes)
        self._replace(no_area | outside, masks, has_mask)
        left &= ~no_area & ~outside
        beyond = _any(corners[:, :2] < -TOLERANCE) | _any(corners[:, 2:] > sizes + TOLERANCE)
        normalized = left & (abs(boxes).max(axis=1) <= NORMALIZED_LIMIT) & (sizes.min(axis=1) > 4)
        self._report_where(rules.NORMALIZED, normalized, boxes)
        left &= ~self._report_where(rules.BOX_BEYOND, left & beyond, boxes)
        usable = left & ~normalized
        left &= single
        agree = _all(abs(corners - masks) <= SLACK)
        contained = _all((masks - corners)[:, :2] >= -SLACK) & _all((corners - masks)[:, 2:] >= -SLACK)
        candidates = np.flatnonzero(left & ~agree)
        apart = np.zeros_like(left)
        apart[candidates] = box_iou(corners[candidates], masks[candidates]) < MIN_IOU
        apart &= ~self._report_where(rules.RLE_BY_ROWS, apart & self._agree_by_rows(apart, corners), boxes)
        self._report_where(rules.BOX_MASK_DISAGREE, apart & ~contained, boxes)
        self._report_where(rules.BOX_LARGE, apart & contained, boxes)
        return usable

    def _agree_by_rows(self, rows: Bools, corners: Floats) -> Bools:
        """Return which of the rows have an RLE that agrees with its box if its runs go row by row."""
        agree = np.zeros_like(rows)
        chosen = [i for i, row in enumerate(self._run_owners) if rows[row]]
        images = [self._images[self._run_owners[i]] for i in chosen]
        bounds = measure_runs([self._runs[i] for i in chosen], [x["width"] for x in images]).bounds
        for i, found in zip(chosen, bounds[:, [1, 0, 3, 2]], strict=True):
            row = self._run_owners[i]
            agree[row] = abs(corners[row] - found).max() <= SLACK
        return agree

    def _replace(self, rows: Bools, masks: Floats, has_mask: Bools) -> None:
        """Take boxes from their masks, or drop the objects that have none."""
        for row in np.flatnonzero(rows):
            x0, y0, x1, y1 = masks[row].tolist()
            if has_mask[row] and x1 > x0 and y1 > y0:
                self._result.new_boxes[self._indices[row]] = [x0, y0, x1 - x0, y1 - y0]
            else:
                self._result.dropped.add(self._indices[row])

    def _report_where(self, rule: Rule, rows: Bools, boxes: Floats) -> Bools:
        for row in np.flatnonzero(rows):
            self._report(rule, int(row), boxes[row].tolist())
        return rows

    def _fault(self, rule: Rule, row: int, found: Any = None, note: str = "") -> None:
        """Report a fault of a mask that keeps it from being compared with its box."""
        self._faulty_masks.add(row)
        self._report(rule, row, found, note)

    def _report(self, rule: Rule, row: int, found: Any = None, note: str = "") -> None:
        if (rule.id, row) in self._reported:
            return  # several polygons of one annotation
        self._reported.add((rule.id, row))
        x, image = self._annotations[row], self._images[row]
        self._findings.add(rule, lambda: f"{describe(x, image)}: {note or shorten(found)}")


def describe(x: Record, image: Record | None) -> str:
    """Return how a message names an annotation."""
    name = x["id"] if isinstance(x.get("id"), (int, str)) else "without id"
    return f"annotation {name}" + (f" ({image.get('file_name')})" if image else "")


def _any(conditions: Bools) -> Bools:
    """Return which rows meet any of the conditions in their columns."""
    return np.asarray(conditions.any(axis=1))


def _all(conditions: Bools) -> Bools:
    """Return which rows meet all the conditions in their columns."""
    return np.asarray(conditions.all(axis=1))
