"""Test-time augmentation of models whose results are instances with masks, or with boxes only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.structures import Boxes, Instances, pairwise_iou
from numpy.typing import NDArray
from torch import Tensor, nn

from ..structures.compact_masks import CroppedMasks
from ..structures.mask_formats import MASK_FORMAT, without_masks
from ..structures.rle_codes import Window, shared_pixels, tight
from ..utils.errors import ConfigError
from .instance_segmentor import InstanceSegmentor

MERGE_IOU = 0.5  # with the best of them, from which on instances of several views are one; as in CenterMask's merging


class View(NamedTuple):
    """How the model sees an image.

    Attributes:
        size: Shorter edge, or side of the square for models that resize every image to one; in pixels.
        is_flipped: Whether left and right are exchanged.
    """

    size: int
    is_flipped: bool


class InstanceTTA(nn.Module):
    """A model with test-time augmentation: it predicts every image in the sizes and flips of ``TEST.AUG``.

    Of all views, the instances of a class that overlap the best of them by an IoU of at least 0.5 are one: its score is
    the best one, and its mask has the pixels that most of them have, weighted by their scores. Masks are crops in their
    boxes throughout, so that the memory grows with the objects, but not with the views.

    Attributes:
        model: The model.
    """

    def __init__(self, cfg: CfgNode, model: InstanceSegmentor) -> None:
        """
        Args:
            cfg: Config of the model; ``TEST.AUG`` sets the views, ``TEST.DETECTIONS_PER_IMAGE`` limits the results.
            model: The model.

        Raises:
            ConfigError: CUDA graphs are asked for, which hold one input size.
        """
        super().__init__()
        if cfg.TEST.CUDA_GRAPHS:
            raise ConfigError("test-time augmentation has no CUDA graphs: set TEST.CUDA_GRAPHS False")
        self.model = model
        self._flips = (False, True) if cfg.TEST.AUG.FLIP else (False,)
        self._sizes, self._max_size = tuple(cfg.TEST.AUG.MIN_SIZES), cfg.TEST.AUG.MAX_SIZE
        self._max_detections = cfg.TEST.DETECTIONS_PER_IMAGE

    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Instances]]:
        """Return the merged instances of each image, as the model does.

        Args:
            batched_inputs: As of the model. Images in their own sizes are better than images that have been resized.
        """
        return [{"instances": self._detect(x)} for x in batched_inputs]

    def _detect(self, x: dict[str, Any]) -> Instances:
        size = (int(x.get("height") or x["image"].shape[1]), int(x.get("width") or x["image"].shape[2]))
        found = [self._in_view(x, size, view) for view in self._views()]
        merged = merge(Instances.cat(found), self._max_detections)
        if merged.has("pred_masks") and x.get(MASK_FORMAT, "dense") == "dense":
            merged.pred_masks = merged.pred_masks.tensor()
        return merged

    def _views(self) -> Iterator[View]:
        return (View(size, flip) for size in self._sizes for flip in self._flips)

    def _in_view(self, x: dict[str, Any], size: tuple[int, int], view: View) -> Instances:
        """Return the instances of an image that the model finds in a view, as in the image itself, on the CPU."""
        image, is_square = x["image"], self.model.input_size is not None
        if not is_square:
            pixels = image.permute(1, 2, 0).cpu().numpy()
            resized = ResizeShortestEdge([view.size] * 2, self._max_size).get_transform(pixels).apply_image(pixels)
            image = torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)))
        if view.is_flipped:
            image = image.flip(2)
        given = {**x, "image": image, "height": size[0], "width": size[1], MASK_FORMAT: "cropped"}
        resizing_to = getattr(self.model, "resizing_to", None)  # else the model has one size only
        with resizing_to(view.size) if is_square and resizing_to else nullcontext():
            found: Instances = self.model([given])[0]["instances"].to("cpu")
        return flipped(found) if view.is_flipped else found


def flipped(instances: Instances) -> Instances:
    """Return the instances of an image whose left and right are exchanged; masks are ``CroppedMasks``."""
    width = instances.image_size[1]
    result = without_masks(instances)
    result.pred_boxes = Boxes(instances.pred_boxes.tensor[:, [2, 1, 0, 3]] * torch.tensor([-1, 1, -1, 1]))
    result.pred_boxes.tensor[:, 0::2] += width
    if instances.has("pred_masks"):
        windows = [
            Window(width - w.left - w.pixels.shape[1], w.top, w.pixels[:, ::-1]) for w in instances.pred_masks.windows()
        ]
        result.pred_masks = CroppedMasks(windows, instances.image_size)
    return result


def merge(instances: Instances, max_detections: int) -> Instances:
    """Return one instance in place of those of several views that are the same, the best first; see the class.

    Args:
        instances: Of all views, in the frame of the image, with ``CroppedMasks`` if they have masks.
        max_detections: Most that are returned; -1 for all.
    """
    instances = instances[instances.scores.argsort(descending=True, stable=True)]
    groups = _groups(instances, max_detections)
    result = without_masks(instances)[torch.tensor([rows[0] for rows in groups], dtype=torch.int64)]
    scores = instances.scores
    if instances.has("pred_masks"):
        windows = list(instances.pred_masks.windows())
        merged = [_vote([windows[i] for i in rows], scores[rows].tolist()) for rows in groups]
        result.pred_masks = CroppedMasks(merged, instances.image_size)
        result.pred_boxes = Boxes(result.pred_masks.boxes())
    elif groups:
        boxes = instances.pred_boxes.tensor
        means = [(boxes[rows] * scores[rows, None]).sum(0) / scores[rows].sum() for rows in groups]
        result.pred_boxes = Boxes(torch.stack(means))
    return result


def _groups(instances: Instances, max_detections: int) -> list[list[int]]:
    """Return the rows of each object, the best one first; ``instances`` are ranked."""
    boxes, classes = instances.pred_boxes, instances.pred_classes
    windows = list(instances.pred_masks.windows()) if instances.has("pred_masks") else None
    areas = [np.count_nonzero(w.pixels) for w in windows] if windows else []
    free = torch.ones(len(instances), dtype=torch.bool)
    groups: list[list[int]] = []
    while free.any() and len(groups) != max_detections:
        best = int(free.int().argmax())
        overlaps: Tensor = pairwise_iou(boxes[best], boxes)[0]
        rows = (free & (classes == classes[best]) & (overlaps > 0)).nonzero()[:, 0].tolist()
        group = [best]
        for row in rows:
            if row == best:
                continue
            iou = float(overlaps[row])
            if windows is not None:
                shared = shared_pixels(windows[best], windows[row])
                iou = shared / max(areas[best] + areas[row] - shared, 1)
            if iou >= MERGE_IOU:
                group.append(row)
        free[group] = False
        groups.append(group)
    return groups


def _vote(windows: Sequence[Window], weights: Sequence[float]) -> Window:
    """Return the pixels in which masks with at least half of the weight agree."""
    if len(windows) == 1:
        return windows[0]
    left, top = min(w.left for w in windows), min(w.top for w in windows)
    right = max(w.left + w.pixels.shape[1] for w in windows)
    bottom = max(w.top + w.pixels.shape[0] for w in windows)
    votes: NDArray[np.float32] = np.zeros((bottom - top, right - left), np.float32)
    for (x, y, pixels), weight in zip(windows, weights, strict=True):
        votes[y - top : y - top + pixels.shape[0], x - left : x - left + pixels.shape[1]] += weight * pixels
    return tight(Window(left, top, votes >= sum(weights) / 2))
