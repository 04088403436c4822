"""Compare what an exported file finds with what PyTorch finds in the same pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tabulate import tabulate
from torch import nn

from ..data.pixels import Pixels
from ..evaluation.pairing import pair_detections
from ..runtime.instances import ExportedInstances
from ..runtime.metadata import Metadata
from ..runtime.predictor import ExportedPredictor
from ..utils.text import counted

BOX_TOLERANCE = 0.5  # pixels of the image
ENCLOSING_TOLERANCE = 1.0  # the same where boxes enclose masks: a pixel at the threshold moves a side by one
MASK_IOU = 0.99  # smallest IoU of the two masks of a detection
MATCH_IOU = 0.5  # of the boxes, and of the masks, of what may be the same detection
LEAST_MATCHED = 0.5  # part of PyTorch's detections that a file finds at least, whatever its limits or rounding drop
ROUNDED_PIXELS = 1  # of a mask, whose probability is at the threshold


@dataclass(frozen=True)
class Difference:
    """How far the detections of one image are apart.

    Attributes:
        name: Of the image.
        reference: Number of detections that PyTorch finds.
        found: Number of detections that the exported file finds.
        matched: Number of pairs among them.
        borderline: Number of those without a partner whose score is at the threshold, or at that of the last slot.
        exact: Whether the limits of the exported file changed nothing; if not, it may lack detections.
        box: Largest difference of a coordinate, pixels.
        score: Largest difference of a score.
        mask_iou: Smallest IoU of two masks; 1 without masks.
        mean_score: Mean difference of a score.
        mean_mask_iou: Mean IoU of two masks; 1 without masks.
        encloses: Whether all boxes of PyTorch end where pixels do, as those around masks.
    """

    name: str
    reference: int
    found: int
    matched: int
    borderline: int
    exact: bool
    box: float
    score: float
    mask_iou: float
    mean_score: float
    mean_mask_iou: float
    encloses: bool

    @property
    def box_tolerance(self) -> float:
        """Largest difference of a coordinate that is in bounds, pixels."""
        return ENCLOSING_TOLERANCE if self.encloses else BOX_TOLERANCE


@dataclass(frozen=True)
class Verification:
    """The comparison of an exported file with PyTorch.

    Attributes:
        differences: Of each image.
        score_tolerance: Largest difference of scores that is in bounds.
        rounding: What the file rounds its weights to, in words, which has a loss to state instead of bounds; or empty.
        average_precisions: AP of PyTorch and of the file by task, such as "mask"; empty without ground truth.
    """

    differences: list[Difference]
    score_tolerance: float
    rounding: str = ""
    average_precisions: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def faults(self) -> list[str]:
        """What is out of bounds; empty if nothing is."""
        if self.rounding:
            reference, found, matched = self._counts()
            fits = matched >= LEAST_MATCHED * reference and found - matched <= reference
            return [] if fits else [f"{self.loss()}, which is less than half of them, or more others than there are"]
        faults: list[str] = []
        for x in self.differences:
            unmatched = x.reference + x.found - 2 * x.matched - x.borderline
            if unmatched > 0 and (x.exact or x.matched < LEAST_MATCHED * x.reference):
                faults.append(f"{x.name}: {counted(unmatched, 'detection')} without a partner")
            if x.box > x.box_tolerance:
                faults.append(f"{x.name}: boxes differ by {x.box:.2g} pixels, more than {x.box_tolerance:g}")
            if x.score > self.score_tolerance:
                faults.append(f"{x.name}: scores differ by {x.score:.2g}, more than {self.score_tolerance:g}")
            if x.mask_iou < MASK_IOU:
                faults.append(f"{x.name}: masks have an IoU of {x.mask_iou:.4f}, less than {MASK_IOU:g}")
        return faults

    def _counts(self) -> list[int]:
        """Return how many detections PyTorch finds, the file finds, and match."""
        return [sum(getattr(x, name) for x in self.differences) for name in ("reference", "found", "matched")]

    def loss(self) -> str:
        """Return what rounding costs, in words."""
        reference, found, matched = self._counts()
        others = counted(found - matched, "other")
        counts = f"{self.rounding}: {matched} of {reference} detections of PyTorch are found, and {others}"
        if not matched:
            return counts
        score, iou = (
            sum(getattr(x, name) * x.matched for x in self.differences) / matched
            for name in ("mean_score", "mean_mask_iou")
        )
        return f"{counts} (mean difference of scores {score:.3f}, mean mask IoU {iou:.3f})"

    @property
    def num_compared(self) -> int:
        """Number of detections that were compared."""
        return sum(x.matched for x in self.differences)

    def table(self) -> str:
        """Return the differences as a table for people."""
        headers = ("image", "PyTorch", "exported", "matched", "limited", "box px", "score", "mask IoU")
        rows = []
        for x in self.differences:
            numbers = (f"{x.box:.1e}", f"{x.score:.1e}", f"{x.mask_iou:.4f}") if x.matched else ("-", "-", "-")
            rows.append((x.name, x.reference, x.found, x.matched, "" if x.exact else "yes", *numbers))
        align = ("left", *["right"] * (len(headers) - 1))
        return tabulate(rows, headers, tablefmt="plain", disable_numparse=True, colalign=align)


def verify(
    references: Sequence[ExportedInstances],
    predictor: ExportedPredictor,
    images: Sequence[tuple[str, Pixels]],
    batch_size: int = 2,
) -> Verification:
    """Return the comparison of an exported file with its model.

    Args:
        references: What the model finds in each image, from :func:`find_references`.
        predictor: The exported file.
        images: Names and images, (H, W, 3) uint8, resized and in the channel order of the model; those of a model of
            fixed size have that size.
        batch_size: Images of one run of the file.
    """
    metadata = predictor.metadata
    rounding, shown = rounding_of(metadata), metadata.display_threshold
    # What nobody would draw comes and goes with rounding, unless there is nothing else
    least = shown if rounding and any((x.scores >= shown).any() for x in references) else 0.0
    differences = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        pixels = [image for _, image in batch]
        found = predictor.run(pixels, [x.shape[:2] for x in pixels])
        for (name, _), ours, theirs in zip(batch, references[start : start + batch_size], found, strict=True):
            ours = ours[: metadata.max_detections]  # the best come first
            differences.append(compare(name, ours, theirs, metadata, least))
    return Verification(differences, metadata.score_tolerance, rounding)


def rounding_of(metadata: Metadata) -> str:
    """Return what an exported file rounds its weights to, in words; empty if it does not."""
    if metadata.int8:
        return "8-bit integers"
    return "weights as float16" if metadata.half else ""


@torch.no_grad()
def find_references(model: nn.Module, images: Sequence[tuple[str, Pixels]]) -> list[ExportedInstances]:
    """Return what a model on the CPU finds in each image, in the frame of its pixels; images as in :func:`verify`."""
    return [_reference(model, image) for _, image in images]


def _reference(model: nn.Module, image: Pixels) -> ExportedInstances:
    """Return what the model finds in an image, in the frame of its pixels."""
    height, width = image.shape[:2]
    tensor = torch.as_tensor(image.transpose(2, 0, 1).astype("float32"))
    instances = model([{"image": tensor, "height": height, "width": width}])[0]["instances"]
    names = {"scores", "pred_classes", "mask_scores", "pred_masks"} & instances.get_fields().keys()
    fields: dict[str, Any] = {name: instances.get(name).numpy() for name in names}
    return ExportedInstances((height, width), pred_boxes=instances.pred_boxes.tensor.numpy(), **fields)


def compare(
    name: str, reference: ExportedInstances, found: ExportedInstances, metadata: Metadata, least: float = 0.0
) -> Difference:
    """Return how far two results for one image are apart.

    Detections are paired one to one: each of the reference, best first, with the most similar free one of its class.
    Many masks may have the same box, so that boxes alone would pair the wrong ones. Where the limits of the file may
    have left out the partner of a detection, one that is only similar is none.
    One without a partner is borderline if rounding alone explains it: its score is at the threshold of the model or
    next to that of the worst detection of a full result. Only detections whose score is at least ``least`` count; their
    partners may have less.
    """
    pairs = pair_detections(_similarities(reference, found))
    if not found.exact and not rounding_of(metadata):
        pairs = [x for x in pairs if _is_same(reference, found, x)]
    paired = {j for _, j in pairs}
    others = sum(x >= least and j not in paired for j, x in enumerate(found.scores))
    pairs = [(i, j) for i, j in pairs if reference.scores[i] >= least]
    rows, columns = (np.array([pair[k] for pair in pairs], np.int64) for k in (0, 1))
    boxes = np.abs(reference.pred_boxes[rows] - found.pred_boxes[columns])
    names = [x for x in ("scores", "mask_scores") if reference.has(x) and found.has(x)]
    scores = [np.abs(reference.get_fields()[x][rows] - found.get_fields()[x][columns]) for x in names]
    ious = [_iou(reference.pred_masks[i], found.pred_masks[j]) for i, j in pairs if reference.has("pred_masks")]
    return Difference(
        name=name,
        reference=int((reference.scores >= least).sum()),
        found=len(pairs) + others,
        matched=len(pairs),
        borderline=_num_borderline(reference, rows, metadata) + _num_borderline(found, columns, metadata),
        exact=found.exact,
        box=float(boxes.max(initial=0)),
        score=float(max(x.max(initial=0) for x in scores)),
        mask_iou=min(ious, default=1.0),
        mean_score=float(scores[0].mean()) if pairs else 0.0,
        mean_mask_iou=sum(ious) / len(ious) if ious else 1.0,
        encloses=_encloses(reference),
    )


def _is_same(reference: ExportedInstances, found: ExportedInstances, pair: tuple[int, int]) -> bool:
    """Return whether the boxes and masks of a pair differ by no more than what is in bounds."""
    i, j = pair
    box = np.abs(reference.pred_boxes[i] - found.pred_boxes[j]).max()
    tolerance = ENCLOSING_TOLERANCE if _encloses(reference) else BOX_TOLERANCE
    if box > tolerance:
        return False
    return not reference.has("pred_masks") or _iou(reference.pred_masks[i], found.pred_masks[j]) >= MASK_IOU


def _encloses(instances: ExportedInstances) -> bool:
    """Return whether all boxes end where pixels do, as those around masks."""
    return bool((instances.pred_boxes == instances.pred_boxes.round()).all())


def _num_borderline(instances: ExportedInstances, matched: NDArray[np.int64], metadata: Metadata) -> int:
    """Return how many instances without a partner are at the threshold, or at the end of a full result."""
    if not len(instances):
        return 0
    alone = np.setdiff1d(np.arange(len(instances)), matched)
    scores, tolerance = instances.scores[alone], 2 * metadata.score_tolerance
    at_threshold = np.abs(scores - metadata.score_threshold) <= tolerance
    is_full = len(instances) >= metadata.max_detections
    return int((at_threshold | (is_full & (scores <= instances.scores.min() + tolerance))).sum())


def _similarities(a: ExportedInstances, b: ExportedInstances) -> NDArray[np.float64]:
    """Return how similar the detections of every pair of two results are, (M, R); -inf if they cannot be the same."""
    overlaps = _overlaps(a, b)
    similar = overlaps - np.abs(a.scores[:, None] - b.scores)
    possible = (a.pred_classes[:, None] == b.pred_classes) & (overlaps >= MATCH_IOU)
    if a.has("pred_masks"):
        first, second = (x.pred_masks.reshape(len(x), math.prod(x.image_size)).astype(np.float32) for x in (a, b))
        areas = first.sum(axis=1)[:, None] + second.sum(axis=1)
        shared = first @ second.T
        ious = shared / np.maximum(areas - shared, 1)
        similar = similar + ious
        possible &= (ious >= MATCH_IOU) | (areas - 2 * shared <= ROUNDED_PIXELS)
    return np.where(possible, similar, -np.inf)


def _overlaps(a: ExportedInstances, b: ExportedInstances) -> NDArray[np.float64]:
    """Return the IoU of the boxes of every pair of two results, (M, R); masks may be empty at this size."""
    first = np.maximum(a.pred_boxes[:, None, :2], b.pred_boxes[:, :2])
    last = np.minimum(a.pred_boxes[:, None, 2:], b.pred_boxes[:, 2:])
    shared = np.clip(last - first, 0, None).prod(axis=2)
    areas = _areas(a.pred_boxes)[:, None] + _areas(b.pred_boxes)
    return (shared / np.maximum(areas - shared, 1e-9)).astype(np.float64)


def _areas(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    return (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)


def _iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Return the IoU of two masks; 1 if they differ by what rounding alone can change, which is much of a tiny mask."""
    if (a ^ b).sum() <= ROUNDED_PIXELS:
        return 1.0
    return float((a & b).sum() / (a | b).sum())
