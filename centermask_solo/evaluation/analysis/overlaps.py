"""Which detections and annotated objects overlap, by masks, boxes or the boundaries of masks."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from pycocotools import mask as rle
from tqdm import tqdm

from ...structures.compact_masks import RLEMasks
from ...structures.rle_codes import Window, window_iou
from .objects import Annotated, Bools, Code, Detected, Floats, Ints, Objects

MIN_IOU = 0.1  # of a pair that is kept; less is background, as in TIDE
BAR: Any = {"unit": " images", "leave": False, "delay": 1.0, "mininterval": 1.0}  # of what takes longer
DILATION = 0.02  # width of a boundary as a fraction of the image's diagonal, as in the paper


class Pairs(NamedTuple):
    """Pairs of a detection and an object of the same image, sorted by both.

    Attributes:
        det: (P,) index of the detection.
        gt: (P,) index of the object.
        iou: (P,) their IoU; of a crowd, the share of the detection that is in it.
    """

    det: Ints
    gt: Ints
    iou: Floats

    def chosen(self, mask: Bools) -> Pairs:
        """Return some of the pairs."""
        return Pairs(self.det[mask], self.gt[mask], self.iou[mask])


def find_overlaps(annotated: Annotated, detected: Detected, some: Bools | None = None) -> Pairs:
    """Return all pairs, of whatever classes, with an IoU of at least ``MIN_IOU``.

    Args:
        annotated: Ground truth.
        detected: Detections.
        some: (D,) which detections are of interest (default: all).
    """
    gt_starts = annotated.starts(len(annotated.records))
    chosen = np.arange(len(detected)) if some is None else np.flatnonzero(some)
    images, starts = np.unique(detected.images[chosen], return_index=True)
    det: list[Ints] = []
    gt: list[Ints] = []
    iou: list[Floats] = []
    groups = list(zip(images.tolist(), np.split(chosen, starts[1:]), strict=True)) if len(images) else []
    for image, d in tqdm(groups, "overlaps", **BAR):
        g = slice(gt_starts[image], gt_starts[image + 1])
        if g.start == g.stop:
            continue
        crowds = annotated.crowds[g].tolist()
        if detected.iou_type == "segm":
            found = rle.iou([detected.codes[i] for i in d], annotated.codes[g], crowds)
        else:
            found = rle.iou(detected.boxes[d], annotated.boxes[g], crowds)
        rows, columns = np.nonzero(found >= MIN_IOU)
        det.append(d[rows])
        gt.append(columns + g.start)
        iou.append(found[rows, columns])
    if not det:
        return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    return Pairs(np.concatenate(det), np.concatenate(gt), np.concatenate(iou))


def boundary_overlaps(annotated: Annotated, detected: Detected, pairs: Pairs) -> Pairs:
    """Return the pairs with the smaller of their mask IoU and the IoU of their boundaries.

    Source: Cheng et al., "Boundary IoU", https://arxiv.org/abs/2103.16562, section 5.

    Args:
        annotated: Ground truth with masks.
        detected: Detections with masks.
        pairs: Those of interest.
    """
    widths = np.array([boundary_width(x["height"], x["width"]) for x in annotated.records])[annotated.images[pairs.gt]]
    # An object that is at most two boundaries wide has no other pixels, so that nothing changes between two of them
    thick = (_short_sides(detected)[pairs.det] > 2 * widths) | (_short_sides(annotated)[pairs.gt] > 2 * widths)
    place, some = np.flatnonzero(thick), pairs.chosen(thick)
    iou = pairs.iou.copy()
    bounds = np.searchsorted(annotated.images[some.gt], np.arange(len(annotated.records) + 1))
    for image in tqdm(np.flatnonzero(np.diff(bounds)).tolist(), "boundaries", **BAR):
        rows = slice(bounds[image], bounds[image + 1])
        width = int(widths[place[bounds[image]]])
        ours = {i: boundary(detected.codes[i], width) for i in np.unique(some.det[rows]).tolist()}
        theirs = {i: boundary(annotated.codes[i], width) for i in np.unique(some.gt[rows]).tolist()}
        iou[place[rows]] = [
            min(x, window_iou(ours[d], theirs[g], bool(annotated.crowds[g])))
            for d, g, x in zip(*(column[rows].tolist() for column in some), strict=True)
        ]
    return pairs._replace(iou=iou)


def _short_sides(objects: Objects) -> Floats:
    """Return (N,) the shorter side of the box around each mask, in pixels."""
    boxes: Floats = rle.toBbox(objects.codes) if objects.codes else np.zeros((0, 4))
    return boxes[:, 2:].min(axis=1, initial=np.inf)


def boundary_width(height: int, width: int) -> int:
    """Return the width of boundaries in an image of this size, in pixels, at least 1."""
    return max(1, round(DILATION * float(np.hypot(height, width))))


def boundary(code: Code, width: int) -> Window:
    """Return the pixels of a mask within ``width`` pixels of its contour, which also runs along the image's edge."""
    (window,) = RLEMasks([code], tuple(code["size"])).windows()
    pixels = cv2.copyMakeBorder(window.pixels.view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    # Of the chessboard metric, in which a square of 2 width + 1 pixels is a disk
    distance = cv2.distanceTransform(pixels, cv2.DIST_C, 3)[1:-1, 1:-1]
    return window._replace(pixels=window.pixels & (distance <= width))
