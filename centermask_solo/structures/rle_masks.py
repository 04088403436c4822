"""Full-size masks of one image as run-length codes, decoded one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import Instances
from numpy.typing import NDArray
from pycocotools import mask as rle
from torch import Tensor

from ..ops.chunks import rows_per_chunk
from ..ops.masks import masks_to_boxes

MAX_MASK_BYTES = 2**28  # of an image's masks as a tensor, where codes are allowed; 256 MiB
ALLOW_RLE = "allow_rle_masks"  # key of a model's input that allows them

Code = dict[str, Any]  # "size", [H, W], and "counts", str, as in COCO's results


class RLEMasks:
    """What ``pred_masks`` of an image is instead of a bool tensor (M, H, W) that would be large.

    It has a length, can be iterated, yielding bool tensors (H, W) on the CPU, and can be indexed like a tensor along
    its first dimension: a number gives such a mask, a slice, list or tensor gives the masks that it selects.
    """

    def __init__(self, codes: Sequence[Code]) -> None:
        """
        Args:
            codes: A code of each mask.
        """
        self.codes = list(codes)

    @classmethod
    def encode(cls, masks: Tensor) -> RLEMasks:
        """Return the codes of masks, (M, H, W) bool on any device."""
        boxes = masks_to_boxes(masks).int().tolist()
        return cls([_encode(mask, x0, x1) for mask, (x0, _, x1, _) in zip(masks.cpu().numpy(), boxes, strict=True)])

    @staticmethod
    def cat(parts: Sequence[RLEMasks]) -> RLEMasks:
        """Return the masks of all parts."""
        return RLEMasks([x for part in parts for x in part.codes])

    def __len__(self) -> int:
        return len(self.codes)

    def __iter__(self) -> Iterator[Tensor]:
        return map(_decode, self.codes)

    def __getitem__(self, item: Any) -> Any:
        rows = torch.arange(len(self))[item].tolist()
        return _decode(self.codes[rows]) if isinstance(rows, int) else RLEMasks([self.codes[i] for i in rows])

    def to(self, *args: Any, **kwargs: Any) -> RLEMasks:
        """Return the masks, which are always on the CPU."""
        del args, kwargs
        return self

    def cpu(self) -> RLEMasks:
        """Return the masks."""
        return self


def coco_results(instances: Instances, image_id: Any) -> list[dict[str, Any]]:
    """Return what Detectron2's ``instances_to_coco_json`` returns, also for :class:`RLEMasks`.

    Args:
        instances: Of an image, on the CPU.
        image_id: Id of the image.
    """
    masks = instances.get_fields().get("pred_masks")
    if not isinstance(masks, RLEMasks):
        return instances_to_coco_json(instances, image_id)
    results: list[dict[str, Any]] = instances_to_coco_json(without_masks(instances), image_id)
    return [{**x, "segmentation": code} for x, code in zip(results, masks.codes, strict=True)]


def without_masks(instances: Instances) -> Instances:
    """Return the instances without ``pred_masks``."""
    fields = {key: value for key, value in instances.get_fields().items() if key != "pred_masks"}
    return Instances(instances.image_size, **fields)


def _decode(code: Code) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(rle.decode(code)).view(bool))


def _encode(mask: NDArray[np.bool_], left: int, right: int) -> Code:
    """Return the code of a mask whose pixels lie in the columns ``left``..``right``, end exclusive."""
    height, width = mask.shape
    columns = cv2.transpose(np.ascontiguousarray(mask[:, left:right]).view(np.uint8)) if right > left else None
    pixels = np.zeros(0, np.uint8) if columns is None else columns.ravel()  # column by column, as codes are
    changes = np.flatnonzero(np.diff(pixels, prepend=0, append=0)) + left * height
    counts = np.diff(changes, prepend=0, append=height * width)
    if len(changes) and changes[-1] == height * width:
        counts = counts[:-1]
    code: Code = rle.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)
    return {"size": [height, width], "counts": code["counts"].decode("ascii")}


def in_parts(
    postprocess: Callable[[Instances], Instances], instances: Instances, output_size: tuple[int, int], allowed: bool
) -> Instances:
    """Return ``postprocess(instances)``, with :class:`RLEMasks` where that is allowed and a tensor would be large.

    Args:
        postprocess: Returns the instances, or some of them, with ``pred_masks``, (M, H, W) bool, if they have masks.
        instances: All of an image.
        output_size: H and W.
        allowed: Whether the reader of the result accepts :class:`RLEMasks`.
    """
    height, width = output_size
    if not allowed or len(instances) * height * width <= MAX_MASK_BYTES:
        return postprocess(instances)
    parts = []
    step = rows_per_chunk(height * width)
    for start in range(0, len(instances), step):
        part = postprocess(instances[start : start + step])
        if part.has("pred_masks"):
            part.pred_masks = RLEMasks.encode(part.pred_masks)
        parts.append(part)
    return Instances.cat(parts)
