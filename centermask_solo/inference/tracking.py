"""Numbers of instances that stay the same over the frames of a video: which mask of a frame continues which track.

Source: the two rounds by score are those of ByteTrack (Zhang et al., 2022, section 3), here with the IoU of masks in
place of that of boxes, and with the masks moved at a constant velocity in place of a Kalman filter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from detectron2.structures import Instances
from numpy.typing import NDArray
from torch import Tensor

from ..structures.compact_masks import CroppedMasks
from ..structures.mask_formats import packed
from ..structures.rle_codes import Window, shared_pixels

LOW_SCORE = 1 / 3  # of the threshold: instances from there on continue tracks, but begin none
MIN_IOU = 0.2  # between a mask and the one that a track expects
MIN_INSIDE = 0.5  # of a mask, in the one that a track expects, from which on it is the part that is not hidden
MIN_SAME = 0.5  # IoU with the expected mask from which on an instance of another class is the same object
HIDDEN_AREA = 0.95  # of the area that a track expects; a smaller mask is a part of the object if it lies in that area
HIDDEN_INSIDE = 0.9  # share of a mask that does so
DRIFT_STEPS, MAX_DRIFT = 32, 2  # steps in the shorter side of a mask, by how many of which it drifts in a frame at most
MAX_AGE = 30  # frames without a mask after which a track ends
MOMENTUM = 0.5  # of the velocity, over one frame
Point = NDArray[np.float64]  # x, y


@dataclass
class _Track:
    """An object that has been seen.

    Attributes:
        id: Its number.
        class_index: The class that it began with.
        window: Its last mask.
        center: Center of the mask's box, in pixels.
        velocity: How the center moves, in pixels a frame.
        age: Frames since it was seen.
        hidden: Frames since it was seen as a whole.
    """

    id: int
    class_index: int
    window: Window
    center: Point
    velocity: Point
    age: int = 0
    hidden: int = 0

    def expected(self) -> Window:
        """Return its last mask where it should be in the next frame."""
        height, width = self.window.pixels.shape
        x, y = self.center + self.velocity * (self.age + 1)
        return self.window._replace(left=round(x - width / 2), top=round(y - height / 2))

    def see(self, window: Window, max_hidden: int) -> None:
        """Continue with a mask; one that lacks a part moves on as it did, unless it has lacked it for long."""
        expected = self.expected()
        area, whole = (int(np.count_nonzero(w.pixels)) for w in (window, expected))
        if self.hidden < max_hidden and area < HIDDEN_AREA * whole:
            around = _moved_around(expected, window)
            if shared_pixels(window, around) >= HIDDEN_INSIDE * area:
                moved = np.array([around.left - expected.left, around.top - expected.top], np.float64)
                self.window, self.center = around, self.center + self.velocity * (self.age + 1) + moved
                self.age, self.hidden = 0, self.hidden + 1
                return
        center = _center(window)
        velocity = (center - self.center) / (self.age + 1)
        self.velocity = velocity if not self.velocity.any() else MOMENTUM * self.velocity + (1 - MOMENTUM) * velocity
        self.window, self.center, self.age, self.hidden = window, center, 0, 0


class Tracker:
    """Gives the instances of a video's frames numbers, from 1: those of one object are the same.

    In each frame the instances with scores from the threshold on continue the tracks of their class whose expected
    masks they overlap most; then the tracks that are left take what is below the threshold, as it often is of objects
    that are half hidden; then any instance that lies in an expected mask, as the visible part of an object does; and
    then one of another class where an object was a frame ago, as when a model is in doubt between two classes. What is
    left from the threshold on begins tracks; what is left below is dropped.
    """

    def __init__(self, score_threshold: float, *, min_iou: float = MIN_IOU, max_age: int = MAX_AGE) -> None:
        """
        Args:
            score_threshold: Score from which on an instance begins a track.
            min_iou: IoU of a mask with the one that a track expects, from which on it continues the track.
            max_age: Frames without a mask after which a track ends.
        """
        self._score_threshold, self._min_iou, self._max_age = score_threshold, min_iou, max_age
        self._tracks: list[_Track] = []
        self._next = 1

    def update(self, instances: Instances) -> Instances:
        """Return the instances of the next frame that belong to a track, with ``track_ids``, (M,) int64.

        Args:
            instances: On the CPU, with those of low scores, too; with masks, or else with boxes.
        """
        windows = list(packed(instances.pred_masks).windows()) if instances.has("pred_masks") else _boxes(instances)
        classes, is_high = instances.pred_classes.tolist(), (instances.scores >= self._score_threshold).tolist()
        found: dict[int, _Track] = {}
        free = list(self._tracks)
        both = {True, False}
        rounds = (
            ({True}, self._min_iou, ""),
            ({False}, self._min_iou, ""),
            (both, MIN_INSIDE, "part"),
            (both, MIN_SAME, "other"),
        )
        for wanted, minimum, kind in rounds:
            rows = [i for i, high in enumerate(is_high) if high in wanted and i not in found]
            candidates = [track for track in free if kind != "other" or track.age == 0]
            similar = _similarity(candidates, rows, windows, classes, instances.image_size, kind)
            found |= {rows[j]: candidates[i] for i, j in _pairs(similar, minimum)}
            free = [track for track in free if all(track is not x for x in found.values())]
        for track in free:
            track.age += 1
        for row, track in found.items():
            track.see(windows[row], self._max_age)
        for row, high in enumerate(is_high):
            if high and row not in found:
                found[row] = _Track(self._next, classes[row], windows[row], _center(windows[row]), np.zeros(2))
                self._next += 1
                self._tracks.append(found[row])
        self._tracks = [track for track in self._tracks if track.age <= self._max_age]
        kept = sorted(found)
        result = instances[torch.tensor(kept, dtype=torch.int64)]
        result.track_ids = torch.tensor([found[row].id for row in kept], dtype=torch.int64)
        return result


def _similarity(
    tracks: Sequence[_Track],
    rows: Sequence[int],
    windows: Sequence[Window],
    classes: Sequence[int],
    size: tuple[int, int],
    kind: str,
) -> Tensor:
    """Return how well each row continues each track, (T, R) float32: the IoU of its mask with the one expected.

    It is 0 for another class unless the kind is "other". With "part", it is the share of the row's mask that lies in
    the one expected.
    """
    expected = CroppedMasks([track.expected() for track in tracks], size)
    masks = CroppedMasks([windows[row] for row in rows], size)
    ious = expected.iou(masks)
    if kind == "part":
        shared = ious / (1 + ious) * (expected.areas()[:, None] + masks.areas()[None])
        ious = shared / masks.areas()[None].clamp(min=1)
    if kind == "other":
        return ious
    same = torch.tensor([[t.class_index == classes[row] for row in rows] for t in tracks], dtype=torch.bool)
    return ious * same.reshape(ious.shape)


def _pairs(similar: Tensor, minimum: float) -> Iterator[tuple[int, int]]:
    """Yield rows and columns of a matrix, each once, from the largest value down to the minimum.

    Masks of one frame hardly overlap each other, so that taking the largest IoU first is the best assignment.
    """
    similar = similar.clone()
    for _ in range(min(similar.shape)):
        row, column = divmod(int(similar.argmax()), similar.shape[1])
        if similar[row, column] < minimum:
            return
        yield row, column
        similar[row], similar[:, column] = -1, -1


def _moved_around(expected: Window, part: Window) -> Window:
    """Return an expected mask, moved a little to where it shares most with the part of it that is visible.

    What is expected of an object that is hidden for some frames drifts away from it by and by.
    """
    step = max(1, min(expected.pixels.shape) // DRIFT_STEPS)
    best = shared_pixels(part, expected)
    for _ in range(MAX_DRIFT):
        moves = [(x, y) for x in (-step, 0, step) for y in (-step, 0, step)]
        near = [expected._replace(left=expected.left + x, top=expected.top + y) for x, y in moves]
        shared, index = max((shared_pixels(part, window), i) for i, window in enumerate(near))
        if shared <= best:
            break
        best, expected = shared, near[index]
    return expected


def _center(window: Window) -> Point:
    height, width = window.pixels.shape
    return np.array([window.left + width / 2, window.top + height / 2])


def _boxes(instances: Instances) -> list[Window]:
    """Return the boxes of instances as masks."""
    corners = instances.pred_boxes.tensor.round().int().tolist()
    return [Window(x0, y0, np.ones((max(y1 - y0, 1), max(x1 - x0, 1)), np.bool_)) for x0, y0, x1, y1 in corners]
