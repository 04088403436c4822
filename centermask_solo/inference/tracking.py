"""Numbers of instances that stay the same over the frames of a video: which mask of a frame continues which track.

Source: the two rounds by score are those of ByteTrack (Zhang et al., 2022, section 3), here with the IoU of masks in
place of that of boxes, and with the masks moved at a constant velocity in place of a Kalman filter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from detectron2.structures import Instances
from numpy.typing import NDArray
from torch import Tensor

from ..structures.compact_masks import CroppedMasks
from ..structures.mask_formats import packed
from ..structures.rle_codes import Window

LOW_SCORE = 1 / 3  # of the threshold: instances from there on continue tracks, but begin none
MIN_IOU = 0.2  # between a mask and the one that a track expects
MAX_AGE = 30  # frames without a mask after which a track ends
MOMENTUM = 0.5  # of the velocity, over one frame
Point = NDArray[np.float64]  # x, y


@dataclass
class _Track:
    """An object that has been seen.

    Attributes:
        id: Its number.
        class_index: Its class, which never changes.
        window: Its last mask.
        center: Center of the mask's box, in pixels.
        velocity: How the center moves, in pixels a frame.
        age: Frames since it was seen.
    """

    id: int
    class_index: int
    window: Window
    center: Point
    velocity: Point
    age: int = 0

    def expected(self) -> Window:
        """Return its last mask where it should be in the next frame."""
        x, y = np.rint(self.velocity * (self.age + 1)).astype(int).tolist()
        return self.window._replace(left=self.window.left + x, top=self.window.top + y)

    def see(self, window: Window) -> None:
        """Continue with a mask."""
        center = _center(window)
        velocity = (center - self.center) / (self.age + 1)
        self.velocity = velocity if not self.velocity.any() else MOMENTUM * self.velocity + (1 - MOMENTUM) * velocity
        self.window, self.center, self.age = window, center, 0


class Tracker:
    """Gives the instances of a video's frames numbers, from 1: those of one object are the same.

    In each frame the instances with scores from the threshold on continue the tracks of their class whose expected
    masks they overlap most; then the tracks that are left take what is below the threshold, as it often is of objects
    that are half hidden. What is left of the former begins tracks; what is left of the latter is dropped.
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
        for wanted in (True, False):
            rows = [i for i, high in enumerate(is_high) if high is wanted]
            for row, track in self._match(free, rows, windows, classes, instances.image_size):
                found[row] = track
            free = [track for track in free if all(track is not x for x in found.values())]
        for track in free:
            track.age += 1
        for row, track in found.items():
            track.see(windows[row])
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

    def _match(
        self,
        tracks: Sequence[_Track],
        rows: Sequence[int],
        windows: Sequence[Window],
        classes: Sequence[int],
        size: tuple[int, int],
    ) -> list[tuple[int, _Track]]:
        """Return pairs of rows and tracks of the same class, those with the largest IoU first, each once.

        Masks of one frame hardly overlap each other, so that taking the largest IoU first is the best assignment.
        """
        expected = CroppedMasks([track.expected() for track in tracks], size)
        ious: Tensor = expected.iou(CroppedMasks([windows[row] for row in rows], size))
        same = torch.tensor([[t.class_index == classes[row] for row in rows] for t in tracks], dtype=torch.bool)
        ious = ious * same.reshape(ious.shape)
        pairs: list[tuple[int, _Track]] = []
        num_pairs = min(ious.shape)
        while len(pairs) < num_pairs and ious.max() >= self._min_iou:
            track, row = divmod(int(ious.argmax()), len(rows))
            pairs.append((rows[row], tracks[track]))
            ious[track], ious[:, row] = -1, -1
        return pairs


def _center(window: Window) -> Point:
    height, width = window.pixels.shape
    return np.array([window.left + width / 2, window.top + height / 2])


def _boxes(instances: Instances) -> list[Window]:
    """Return the boxes of instances as masks."""
    corners = instances.pred_boxes.tensor.round().int().tolist()
    return [Window(x0, y0, np.ones((max(y1 - y0, 1), max(x1 - x0, 1)), np.bool_)) for x0, y0, x1, y1 in corners]
