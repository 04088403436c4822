"""Forms of the full-size masks of detections: which one a reader asks for, and how it is made in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import Instances

from ..ops.chunks import rows_per_chunk
from ..utils.memory import free_unused
from .compact_masks import CompactMasks, CroppedMasks, RLEMasks

MaskFormat = Literal["dense", "cropped", "rle", "compact"]
MASK_FORMAT = "mask_format"  # key of a model's input
SCORE_THRESHOLD = "score_threshold"  # key of a model's input
MAX_MASK_BYTES = 2**28  # of an image's crops in the format "compact"; 256 MiB
UNUSED_BYTES = 2**28  # of masks made, after which the holes that they left between small tensors are given back
_FORMS: dict[str, type[CompactMasks]] = {"cropped": CroppedMasks, "rle": RLEMasks, "compact": CroppedMasks}
MASK_FORMATS = ("dense", *_FORMS)


def in_parts(
    postprocess: Callable[[Instances], Instances],
    instances: Instances,
    output_size: tuple[int, int],
    options: Mapping[str, Any],
) -> Instances:
    """Return ``postprocess(instances)`` as the reader of an image's result wants it.

    Masks of other formats than "dense" are made and packed a few at a time: 32 MiB of them, but at least one mask.

    Args:
        postprocess: Returns the instances, or some of them, with ``pred_masks``, (M, H, W) bool, if they have masks.
        instances: All of an image.
        output_size: H and W.
        options: The model's input for the image, of which two entries count: ``score_threshold``, from which on
            ``scores`` are wanted, by default all, and ``mask_format``, what ``pred_masks`` of the result is: "dense",
            the default, a tensor; "cropped", :class:`~.compact_masks.CroppedMasks`; "rle",
            :class:`~.compact_masks.RLEMasks`; "compact", cropped, or codes if the crops would take more than 256 MiB.
    """
    threshold, mask_format = options.get(SCORE_THRESHOLD), options.get(MASK_FORMAT, "dense")
    if threshold is not None:
        instances = instances[instances.scores >= threshold]
    if mask_format == "dense":
        return postprocess(instances)
    form, num_bytes, made = _FORMS[mask_format], 0, 0
    parts: list[Instances] = []
    step = rows_per_chunk(output_size[0] * output_size[1])
    for start in range(0, max(len(instances), 1), step):
        part = postprocess(instances[start : start + step])
        parts.append(part)
        if part.has("pred_masks"):
            made += part.pred_masks.nbytes
            part.pred_masks = form.encode(part.pred_masks)
            if made >= UNUSED_BYTES:
                free_unused()
                made = 0
            num_bytes += part.pred_masks.nbytes
            if mask_format == "compact" and form is CroppedMasks and num_bytes > MAX_MASK_BYTES:
                form = RLEMasks
                for earlier in parts:
                    earlier.pred_masks = form.encode(earlier.pred_masks)
    return Instances.cat(parts)


def with_options(instances: Instances, options: Mapping[str, Any]) -> Instances:
    """Return the result of a model that may know nothing of the options of :func:`in_parts` as it is with them."""
    if isinstance(instances.get_fields().get("pred_masks"), CompactMasks):
        return instances
    return in_parts(lambda x: x, instances, instances.image_size, options)


def packed(masks: Any) -> CompactMasks:
    """Return an image's masks, of any form, on the CPU, without the pixels around the objects."""
    return masks if isinstance(masks, CompactMasks) else CroppedMasks.encode(masks)


def coco_results(instances: Instances, image_id: Any) -> list[dict[str, Any]]:
    """Return what Detectron2's ``instances_to_coco_json`` returns, for masks of any form.

    Args:
        instances: Of an image, on the CPU.
        image_id: Id of the image.
    """
    results: list[dict[str, Any]] = instances_to_coco_json(without_masks(instances), image_id)
    if instances.has("pred_masks"):
        add_codes(results, instances.pred_masks)
    return results


def add_codes(results: list[dict[str, Any]], masks: Any) -> None:
    """Store the codes of an image's masks, of any form, as "segmentation" of its COCO results."""
    for result, code in zip(results, RLEMasks.encode(masks).codes, strict=True):
        result["segmentation"] = code


def without_masks(instances: Instances) -> Instances:
    """Return the instances without ``pred_masks``."""
    fields = {key: value for key, value in instances.get_fields().items() if key != "pred_masks"}
    return Instances(instances.image_size, **fields)
