"""The ground-truth masks of training images at full size, in whatever form the loader gives them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from detectron2.structures import BitMasks, Instances, PolygonMasks, polygons_to_bitmask
from torch import Tensor

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
