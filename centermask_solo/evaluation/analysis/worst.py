"""Where to look first: the images that are segmented worst, and the most confident mistakes."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

from .confusion import Confusion
from .errors import Errors
from .evaluated import Evaluated
from .objects import Bools, Floats, Ints
from .overlaps import Pairs

MISTAKES_PER_IMAGE = 2  # so that one image does not take all places


class ImageQuality(NamedTuple):
    """How well the images are segmented by the detections above a score threshold.

    Attributes:
        quality: (I,) the sum of the IoUs of detections that find their object, divided by their number plus half of
            the wrong detections and half of the missed objects; nan for images without any of them.
        found: (I,) objects found at IoU 0.5 and in their class.
        wrong: (I,) other detections.
        missed: (I,) other objects.
    """

    quality: Floats
    found: Ints
    wrong: Ints
    missed: Ints

    def worst(self, count: int) -> list[int]:
        """Return the images with the lowest quality; of equal ones, those with the most errors first."""
        order = np.lexsort((-(self.wrong + self.missed), self.quality))
        return order[~np.isnan(self.quality[order]) & (self.wrong + self.missed > 0)[order]][:count].tolist()


def image_quality(evaluated: Evaluated, confusion: Confusion) -> ImageQuality:
    """Return the quality of all images at the score threshold of a confusion.

    Source: Kirillov et al., "Panoptic Segmentation", https://arxiv.org/abs/1801.00868, section 4.1, applied to the
    instances of one image, classes pooled.
    """
    annotated, detected = evaluated.annotated, evaluated.detected
    num_images = len(annotated.records)
    right = confusion.found >= 0
    right[right] = annotated.classes[confusion.found[right]] == detected.classes[right]
    found = np.bincount(detected.images[right], minlength=num_images)
    wrong = np.bincount(detected.images[confusion.shown & ~right], minlength=num_images)
    objects = np.bincount(annotated.images[~annotated.crowds], minlength=num_images)
    iou = iou_of(evaluated.pairs, np.flatnonzero(right), confusion.found[right])
    sums = np.bincount(detected.images[right], weights=iou, minlength=num_images)
    missed = objects - found
    with np.errstate(invalid="ignore"):
        return ImageQuality(sums / (found + wrong / 2 + missed / 2), found, wrong, missed)


def iou_of(pairs: Pairs, det: Ints, gt: Ints) -> Floats:
    """Return the IoU of some pairs, which are among ``pairs``."""
    if not len(det):
        return np.zeros(0)
    length = int(max(pairs.gt.max(), gt.max())) + 1
    place = np.searchsorted(pairs.det * length + pairs.gt, det * length + gt)
    return pairs.iou[place]


def confident_mistakes(evaluated: Evaluated, errors: Errors, count: int) -> list[int]:
    """Return the wrong detections with the highest scores, at most ``MISTAKES_PER_IMAGE`` of an image."""
    wrong = np.flatnonzero(errors.kind >= 0)
    order = wrong[np.argsort(-evaluated.detected.scores[wrong], kind="stable")]
    seen: Counter[int] = Counter()
    chosen: list[int] = []
    for i in order.tolist():
        image = int(evaluated.detected.images[i])
        if seen[image] < MISTAKES_PER_IMAGE:
            seen[image] += 1
            chosen.append(i)
        if len(chosen) == count:
            break
    return chosen


def shown_in(confusion: Confusion, evaluated: Evaluated, image: int) -> Bools:
    """Return (D,) which detections of an image are above the score threshold."""
    return confusion.shown & (evaluated.detected.images == image)
