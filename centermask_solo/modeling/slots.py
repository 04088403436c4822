"""From detections of fixed shape to each image's own, with one read on the host for a whole batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, Protocol

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor

from ..structures.mask_formats import MASK_FORMAT, MAX_MASK_BYTES, SCORE_THRESHOLD, in_parts, with_options
from .detections import Detections, image_sizes_on

Inputs = list[dict[str, Any]]  # one dict per image, as are outputs
Size = tuple[int, int]  # height and width
BELOW = 1 - 1e-4  # times a score: one that is lower, whatever the rounding


class Output(NamedTuple):
    """What the result of an image should be.

    Attributes:
        size: Its height and width.
        options: The model's input for the image: see :func:`~centermask_solo.structures.mask_formats.in_parts`.
    """

    size: Size
    options: Mapping[str, Any]

    @classmethod
    def of(cls, x: dict[str, Any]) -> Output:
        """Return what an input dict asks for."""
        height, width = x["image"].shape[-2:]
        return cls((int(x.get("height", height)), int(x.get("width", width))), x)


class FixedShapeModel(Protocol):
    """The verbs of an ``InstanceSegmentor`` that are needed here."""

    test_max_detections: int

    def detect(self, predictions: Any, image_sizes: Tensor, max_detections: int) -> Detections: ...

    def inference(self, predictions: Any, image_sizes: list[Size], *, min_score: float) -> list[Instances]: ...

    def paste(
        self, instances: Instances, predictions: Any, index: int, output_size: Size
    ) -> tuple[Instances, Tensor]: ...

    def postprocess(self, instances: Instances, predictions: Any, index: int, output_size: Size) -> Instances: ...


class Slots(NamedTuple):
    """The slots of an image on the device, before the host knows which of them hold a detection.

    Attributes:
        instances: K, of which the result are some.
        kept: (K,) bool, which.
    """

    instances: Instances
    kept: Tensor


class Companion(Protocol):
    """What a model computes of the instances of each image, of which the host reads numbers at the same time."""

    def compute(self, index: int, slots: Slots) -> Tensor:
        """Return the numbers to read, (n,) int64, from slots whose masks have the size of the output.

        Args:
            index: Index of the image in the batch.
            slots: Its slots.
        """
        ...

    def take(self, index: int, numbers: list[int]) -> None:
        """Take the numbers that :meth:`compute` returned for an image; not called if these slots are not the result."""
        ...


def read_slots(
    images: Sequence[Slots], exact: Tensor, numbers: Sequence[Tensor | None]
) -> tuple[list[Instances], list[bool], list[list[int]]]:
    """Return the detections of each image, which images are exact, and numbers: the only read of a batch on the host.

    Args:
        images: N, of the same K.
        exact: (N,) bool.
        numbers: N x (n,) int64, or None: what else to read.
    """
    flags = torch.cat([torch.stack([x.kept for x in images]), exact[:, None]], dim=1)
    values = iter(torch.cat([flags.flatten(), *(x for x in numbers if x is not None)]).tolist())
    rows = [list(islice(values, flags.shape[1])) for _ in images]
    others = [[] if x is None else list(islice(values, len(x))) for x in numbers]
    found = [keep(x.instances, row[:-1]) for x, row in zip(images, rows, strict=True)]
    return found, [bool(row[-1]) for row in rows], others


def read_detections(
    detections: Detections, image_sizes: Sequence[Size], unlimited: Callable[[], list[Instances]]
) -> list[Instances]:
    """Return the detections of each image in the frame of the network's input, with one read on the host.

    Args:
        detections: Slots of N images.
        image_sizes: (height, width) of each image before padding.
        unlimited: Finds them without limits of shape; called if some of ``detections`` are not exact.
    """
    filled = detections.filled()
    slots = [Slots(detections.slots(i, size), filled[i]) for i, size in enumerate(image_sizes)]
    results, exact, _ = read_slots(slots, detections.exact, [None] * len(slots))
    return results if all(exact) else replace_inexact(results, exact, unlimited())


def replace_inexact(found: list[Instances], exact: Sequence[bool], unlimited: list[Instances]) -> list[Instances]:
    """Return what was found in each image, in ``unlimited`` shape where that is not exact."""
    return [x if ok else y for x, y, ok in zip(found, unlimited, exact, strict=True)]


def keep(instances: Instances, flags: Sequence[bool]) -> Instances:
    """Return the instances whose flag is set, in their order, without a read on the host.

    Masks move within their memory, because a copy of most of them would double it.
    """
    rows = [row for row, flag in enumerate(flags) if flag]
    if len(rows) == len(instances):
        return instances
    fields = {name: _take(x, rows, in_place=name == "pred_masks") for name, x in instances.get_fields().items()}
    return Instances(instances.image_size, **fields)


def _take(values: Tensor | Boxes, rows: list[int], in_place: bool) -> Tensor | Boxes:
    """Return the given rows, which ascend; a few rows do not keep the memory of all."""
    if isinstance(values, Boxes):
        return Boxes(values.tensor[_on(values.device, rows)])
    if not in_place:
        return values[_on(values.device, rows)]
    for to, row in enumerate(rows):
        if to != row:
            values[to] = values[row]
    few = values[: len(rows)]
    return few.clone() if 2 * len(few) <= len(values) else few


def _on(device: torch.device, rows: list[int]) -> Tensor:
    """Return rows as a tensor on a device that does not wait for them."""
    return torch.tensor(rows, dtype=torch.int64).to(device, non_blocking=True)


def detect_in_slots(
    model: FixedShapeModel,
    predictions: Any,
    image_sizes: list[Size],
    outputs: Sequence[Output | None],
    device: torch.device,
    companion: Companion | None = None,
) -> list[Instances]:
    """Return the detections of each image at its output size, with one read on the host for the whole batch.

    Images whose slots' masks would take more than 256 MiB, and batches of which an image is not exact, read more.

    Args:
        model: The model.
        predictions: What its networks computed.
        image_sizes: (height, width) of each image before padding.
        outputs: What is asked for, of each image; None for the result of ``inference``.
        device: Device of the predictions.
        companion: What else is computed of the slots that are pasted.
    """
    detections = model.detect(predictions, image_sizes_on(device, image_sizes), model.test_max_detections)
    filled = detections.filled()
    max_pixels = MAX_MASK_BYTES // filled.shape[1]
    is_pasted = [x is not None and x.size[0] * x.size[1] <= max_pixels for x in outputs]
    slots: list[Slots] = []
    numbers: list[Tensor | None] = []
    for i, output in enumerate(outputs):
        found, kept = detections.slots(i, image_sizes[i]), filled[i]
        if output is not None and (threshold := output.options.get(SCORE_THRESHOLD)) is not None:
            kept = kept & (found.scores >= threshold)
        if output is not None and is_pasted[i]:
            found, has_pixels = model.paste(found, predictions, i, output.size)
            kept = kept & has_pixels
        slots.append(Slots(found, kept))
        numbers.append(companion.compute(i, slots[i]) if companion is not None and is_pasted[i] else None)
    results, exact, read = read_slots(slots, detections.exact, numbers)
    del slots
    if not all(exact):
        unlimited = model.inference(predictions, image_sizes, min_score=lowest_score(outputs))
        results = replace_inexact(results, exact, unlimited)
        is_pasted = [x and ok for x, ok in zip(is_pasted, exact, strict=True)]
    for i in range(len(outputs)):
        if companion is not None and is_pasted[i]:
            companion.take(i, read[i])
    return [
        with_options(x, {MASK_FORMAT: output.options.get(MASK_FORMAT, "dense")})  # scores are filtered by now
        if output is not None and done
        else paste_all(model, x, predictions, i, output)
        for i, (x, done, output) in enumerate(zip(results, is_pasted, outputs, strict=True))
    ]


def lowest_score(outputs: Sequence[Output | None]) -> float:
    """Return the score below which no detection of a batch is wanted; 0 if one of its images wants all."""
    thresholds = [None if x is None else x.options.get(SCORE_THRESHOLD) for x in outputs]
    return min((0.0 if x is None else float(x) for x in thresholds), default=0.0)


def class_threshold(score_thresh: float, min_score: float) -> float:
    """Return the class probability that the candidates of detections from ``min_score`` on exceed.

    The score is that probability times factors of at most 1, and rules of NMS only lower it. What is left out would
    only suppress what has lower scores still.

    Args:
        score_thresh: The model's own threshold.
        min_score: Score below which detections are not wanted.
    """
    return max(score_thresh, min_score * BELOW)


def paste_all(
    model: FixedShapeModel, instances: Instances, predictions: Any, index: int, output: Output | None
) -> Instances:
    """Return the detections of one image at the output size, as its options ask for."""
    if output is None:
        return instances
    paste = partial(model.postprocess, predictions=predictions, index=index, output_size=output.size)
    return in_parts(paste, instances, output.size, output.options)
