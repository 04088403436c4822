"""Decoding of FCOS's outputs in a fixed shape: what :mod:`decode` computes, without reading from the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...ops.topk import padded_topk
from ..detections import Detections
from ..fixed_nms import FixedKept


class FixedCandidates(NamedTuple):
    """The boxes of each image that enter NMS, in L x ``pre_nms_topk`` slots, the best of each level first."""

    quality: Tensor  # (N, M) float32, class probability x centerness; zero in unused slots
    classes: Tensor  # (N, M) int64
    boxes: Tensor  # (N, M, 4) float32 x0, y0, x1, y1 in input pixels, not clipped; zero in unused slots
    locations: Tensor  # (N, M, 2) float32, the (x, y) that predicted each, input pixels

    def take(self, kept: FixedKept) -> Detections:
        """Return the candidates that NMS kept, with ``locations`` among the fields."""
        is_used = kept.scores > 0
        boxes, locations = (
            torch.where(is_used[:, :, None], x.gather(1, kept.rows[:, :, None].expand(-1, -1, x.shape[2])), 0.0)
            for x in (self.boxes, self.locations)
        )
        classes = torch.where(is_used, self.classes.gather(1, kept.rows), 0)
        return Detections(boxes, kept.scores, classes, is_used.sum(dim=1), kept.exact, {"locations": locations})


@torch.no_grad()
def decode_fixed(
    class_logits: Sequence[Tensor],
    ltrb: Sequence[Tensor],
    centerness_logits: Sequence[Tensor],
    *,
    strides: Sequence[int],
    score_thresh: float,
    thresh_with_centerness: bool,
    pre_nms_topk: int,
) -> FixedCandidates:
    """Return the candidate boxes of each image; arguments as in :func:`decode_batch`.

    Differs: candidates whose class probability x centerness is zero in float32 are dropped.
    """
    levels = []
    for logits, distances, centerness, stride in zip(class_logits, ltrb, centerness_logits, strides, strict=True):
        # Rank all pairs of a class and a location.
        distances = distances.float() * stride
        probability = logits.float().sigmoid()
        quality = probability * centerness.float().sigmoid()
        passing = quality if thresh_with_centerness else probability
        valid = (passing > score_thresh) & distances.isfinite().all(dim=1, keepdim=True) & quality.isfinite()
        pairs = torch.where(valid, quality, 0.0).flatten(1)
        top, index = padded_topk(pairs, pre_nms_topk)  # a level may have fewer

        # Recover class and location.
        height, width = logits.shape[-2:]
        classes = torch.div(index, height * width, rounding_mode="floor")
        cell = index - classes * (height * width)
        row = torch.div(cell, width, rounding_mode="floor")
        xy = torch.stack([cell - row * width, row], dim=2).float() * stride + stride // 2
        sides = distances.flatten(2).gather(2, cell[:, None].expand(-1, 4, -1)).transpose(1, 2)
        boxes = torch.cat([xy - sides[..., :2], xy + sides[..., 2:]], dim=2)
        levels.append(FixedCandidates(top, classes, torch.where(top[..., None] > 0, boxes, 0.0), xy))
    return FixedCandidates(*(torch.cat(x, dim=1) for x in zip(*levels, strict=True)))
