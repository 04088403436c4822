"""Detections of fixed shape: what decoding returns on a GPU and in exported files, where sizes cannot depend on data."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Detections(NamedTuple):
    """The detections of a batch in K slots per image, best first; slots from ``num_detections`` on are zero.

    Attributes:
        boxes: (N, K, 4) float32 x0, y0, x1, y1 in pixels of the network's input, not clipped.
        scores: (N, K) float32, descending.
        classes: (N, K) int64.
        num_detections: (N,) int64.
        exact: (N,) bool; whether the limits of the fixed shape changed nothing. Where it is False, ``inference`` of
            unlimited shape may find other detections.
        fields: Further tensors (N, K, ...), by name, from which the masks are made.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    num_detections: Tensor
    exact: Tensor
    fields: dict[str, Tensor]
