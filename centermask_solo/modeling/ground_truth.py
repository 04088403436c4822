"""The ground-truth masks of training images at full size, in whatever form the loader gives them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from detectron2.structures import BitMasks, Instances, PolygonMasks, polygons_to_bitmask
from torch import Tensor

from ..utils.errors import DataError

MASK_CHUNK_PIXELS = 2**24  # of the masks that are rasterized or moved to the device together: 16 MB of booleans


def mask_chunks(instances: Instances, rows: Tensor) -> Iterator[Tensor]:
    """Masks of one image, (m, h, w) bool on the device of ``rows``: in order, but a bounded number at a time.

    Args:
        instances: with ``gt_masks``: ``BitMasks``, ``PolygonMasks`` or a bool tensor (M, h, w). Detectron2's mapper
            leaves them out where there are no instances.
        rows: int64, of the wanted ones.

    Raises:
        ValueError: there are no masks, though some are wanted.
    """
    if len(rows) == 0:
        return
    if not instances.has("gt_masks"):
        raise ValueError("The instances have no gt_masks: the model needs MODEL.MASK_ON True and data with masks.")
    masks, (height, width) = instances.gt_masks, instances.image_size
    tensor = masks.tensor if isinstance(masks, BitMasks) else masks
    for chunk in rows.split(max(MASK_CHUNK_PIXELS // max(height * width, 1), 1)):
        if isinstance(masks, PolygonMasks):
            bitmasks = [polygons_to_bitmask(masks.polygons[i], height, width) for i in chunk.tolist()]
            yield torch.stack([torch.from_numpy(x) for x in bitmasks]).to(rows.device)
        else:
            yield tensor[chunk.to(tensor.device)].to(rows.device).bool()


def check_classes(gt_classes: Tensor, num_classes: int, num_classes_key: str) -> None:
    """Raise DataError unless all classes are in 0..K-1; costs one host synchronization.

    Without the check a wrong class becomes background, or crashes the GPU when it is used as an index.

    Args:
        gt_classes: (M,) int64, of all images.
        num_classes: K.
        num_classes_key: The option that sets K.
    """
    outside = gt_classes[(gt_classes < 0) | (gt_classes >= num_classes)]
    if len(outside):
        raise DataError(
            f"an instance has class {outside[0].item()}, but {num_classes_key} is {num_classes}: set it to the number "
            f"of classes of the dataset, whose instances then have 0..{num_classes - 1}"
        )
