"""Detections at the size of their image: boxes scaled and clipped, masks pasted."""

from __future__ import annotations

import torch
from detectron2.modeling import detector_postprocess
from detectron2.structures import Boxes, Instances, ROIMasks
from torch import Tensor

from ..ops.paste import paste_masks

_MASK_THRESHOLD = 0.5  # probability from which on a pixel belongs to a mask, as in Detectron2


def paste_instances(
    instances: Instances, output_size: tuple[int, int], into_whole_boxes: bool = False
) -> tuple[Instances, Tensor]:
    """Return what ``detector_postprocess`` does, and which detections lie in the image, without a host read.

    Args:
        instances: Detections in the frame of the network's input: ``pred_boxes`` and maybe ``pred_masks``
            (M, 1, h, w), probabilities. They are not changed.
        output_size: (height, width).
        into_whole_boxes: Paste masks into boxes before these are clipped, as :func:`paste_into_whole_boxes`.

    Returns:
        All of them, with clipped boxes and ``pred_masks`` (M, height, width) bool; and (M,) bool, which of these boxes
        have an area.
    """
    (height, width), (output_height, output_width) = instances.image_size, output_size
    fields = dict(instances.get_fields())
    sides = fields.pop("pred_boxes").tensor
    whole = torch.stack([sides[:, 0::2] * (output_width / width), sides[:, 1::2] * (output_height / height)], dim=2)
    clipped = torch.stack([whole[..., 0].clamp(0, output_width), whole[..., 1].clamp(0, output_height)], dim=2)
    has_area = (clipped[:, 1] > clipped[:, 0]).all(dim=1)
    whole, clipped = whole.flatten(1), clipped.flatten(1)
    if "pred_masks" in fields:
        to = whole if into_whole_boxes else clipped
        fields["pred_masks"] = paste_masks(fields["pred_masks"][:, 0], to, output_size, _MASK_THRESHOLD)
    return Instances(output_size, **fields, pred_boxes=Boxes(clipped)), has_area


def paste_into_whole_boxes(results: Instances, output_height: int, output_width: int) -> Instances:
    """Return what ``detector_postprocess`` does, with each mask pasted into its box before the box is clipped.

    Args:
        results: Detections in the frame of the network's input: ``pred_boxes`` and maybe ``pred_masks`` (M, 1, h, w).
        output_height: In pixels.
        output_width: In pixels.
    """
    height, width = results.image_size
    fields = dict(results.get_fields())
    masks = fields.pop("pred_masks", None)
    scaled = results.pred_boxes.clone()
    scaled.scale(output_width / width, output_height / height)
    whole = Instances(results.image_size, **fields)
    if masks is not None:
        whole.set("whole_boxes", scaled)
        whole.set("roi_masks", masks)
    pasted = detector_postprocess(whole, output_height, output_width)
    if masks is not None:
        roi_masks = ROIMasks(pasted.roi_masks[:, 0])
        pasted.pred_masks = roi_masks.to_bitmasks(
            pasted.whole_boxes, output_height, output_width, _MASK_THRESHOLD
        ).tensor
        pasted.remove("whole_boxes")
        pasted.remove("roi_masks")
    return pasted
