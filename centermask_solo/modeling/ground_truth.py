"""Ground truth of training images: full-size masks in any form the loader gives them, and checked classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.structures import BitMasks, Instances, PolygonMasks, polygons_to_bitmask
from torch import Tensor

from ..ops.chunks import rows_per_chunk
from ..utils.errors import DataError


def check_ground_truth(batched_inputs: Iterable[dict[str, Any]]) -> None:
    """Raise DataError unless every input of a training batch has ``instances``."""
    for x in batched_inputs:
        if "instances" not in x:
            raise DataError(
                f'training needs ground truth, but {x.get("file_name", "an image")} has no "instances": '
                "use a dataset mapper for training, or call eval() to predict"
            )


def mask_chunks(instances: Instances, rows: Sequence[int], device: torch.device) -> Iterator[Tensor]:
    """Yield masks of one image in order, a bounded number at a time: (m, h, w) bool on ``device``.

    Args:
        instances: With ``gt_masks``: ``BitMasks``, ``PolygonMasks`` or a bool tensor (M, h, w). Detectron2's mapper
            leaves them out if there are no instances.
        rows: Indices of the instances whose masks to yield.
        device: Device of the result.

    Raises:
        DataError: There are no masks although ``rows`` is not empty.
    """
    if len(rows) == 0:
        return
    if not instances.has("gt_masks"):
        raise DataError("the instances have no gt_masks: the model needs MODEL.MASK_ON True and data with masks")
    masks, (height, width) = instances.gt_masks, instances.image_size
    tensor = masks.tensor if isinstance(masks, BitMasks) else masks
    step = rows_per_chunk(2 * height * width)
    for start in range(0, len(rows), step):
        chunk = list(rows[start : start + step])
        if isinstance(masks, PolygonMasks):
            bitmasks = [polygons_to_bitmask(masks.polygons[i], height, width) for i in chunk]
            yield to_device(torch.stack([torch.from_numpy(x) for x in bitmasks]), device)
        else:
            yield to_device(tensor[rows_on(tensor.device, chunk)], device).bool()


def to_device(tensor: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Return a tensor on a device; a GPU to which the loader's tensors go does not wait for them."""
    return tensor.to(device, dtype, non_blocking=device.type != "cpu")


def rows_on(device: torch.device, rows: Sequence[int]) -> Tensor:
    """Return rows, (M,) int64, on a device that does not wait for them."""
    return torch.tensor(rows, dtype=torch.int64).to(device, non_blocking=True)


def check_classes(gt_classes: Tensor, num_classes: int, num_classes_key: str) -> None:
    """Raise DataError unless all classes are in 0..K-1; costs one host synchronization.

    Without the check a wrong class becomes background, or crashes the GPU when it is used as an index.

    Args:
        gt_classes: (M,) int64, of all images.
        num_classes: K.
        num_classes_key: The option that sets K.
    """
    lowest, highest = class_range(gt_classes).tolist()
    check_class_range(lowest, highest, num_classes, num_classes_key)


def class_range(gt_classes: Tensor) -> Tensor:
    """Return the lowest and the highest class, (2,) int64; 0 if there are none. See :func:`check_class_range`."""
    return torch.stack(F.pad(gt_classes, (0, int(len(gt_classes) == 0))).aminmax())


def check_class_range(lowest: int, highest: int, num_classes: int, num_classes_key: str) -> None:
    """Raise DataError unless all classes are in 0..K-1; for those who read :func:`class_range` with other figures."""
    if lowest < 0 or highest >= num_classes:
        wrong = lowest if lowest < 0 else highest
        raise DataError(
            f"an instance has class {wrong}, but {num_classes_key} is {num_classes}: set it to the number of classes "
            f"of the dataset, whose instances then have 0..{num_classes - 1}"
        )
