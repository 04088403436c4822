"""What CenterMask logs of its RoIs and masks in training."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

import torch
from detectron2.utils.events import get_event_storage, has_event_storage

from .heads import RoIPredictions
from .targets import MaskTargets


def log_mask_accuracy(predictions: RoIPredictions | None, targets: MaskTargets | None) -> None:
    """Log the error rates of the masks' cells under Detectron2's names, with one host synchronization.

    Nothing is logged without masks, without RoIs, or outside of an ``EventStorage``.
    """
    if predictions is None or targets is None or targets.masks.numel() == 0 or not has_event_storage():
        return
    mask_logits, target_masks = predictions.mask_logits, targets.masks
    wrong = (mask_logits > 0) != target_masks
    counts = torch.stack([wrong.sum(), target_masks.sum(), (wrong & target_masks).sum()]).tolist()
    num_wrong, num_positive, num_missed = counts
    num_negative = target_masks.numel() - num_positive
    storage = get_event_storage()
    storage.put_scalar("mask_rcnn/accuracy", 1 - num_wrong / target_masks.numel())
    storage.put_scalar("mask_rcnn/false_positive", (num_wrong - num_missed) / max(num_negative, 1))
    storage.put_scalar("mask_rcnn/false_negative", num_missed / max(num_positive, 1))


def log_samples(num_foreground: Sequence[int], num_background: Sequence[int]) -> None:
    """Log the mean numbers of RoIs that were sampled in an image; nothing outside of an ``EventStorage``."""
    if has_event_storage():
        storage = get_event_storage()
        storage.put_scalar("roi_head/num_fg_samples", mean(num_foreground))
        storage.put_scalar("roi_head/num_bg_samples", mean(num_background))
