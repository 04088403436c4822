"""CenterMask as a Detectron2 meta-architecture."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN, detector_postprocess
from detectron2.structures import Instances, ROIMasks

_MASK_THRESHOLD = 0.5  # probability from which a pixel belongs to a mask; Detectron2's


@META_ARCH_REGISTRY.register()
class CenterMask(GeneralizedRCNN):
    """FCOS, then masks and their predicted IoU: a ``GeneralizedRCNN`` that knows a second way of pasting masks.

    A config may also name ``GeneralizedRCNN`` (as the authors' files do) or ``PanopticFPN``: all that makes the model
    is in its proposal generator and its RoI heads.
    """

    @configurable
    def __init__(self, *, paste_unclipped: bool = False, **kwargs: Any) -> None:
        """
        Args:
            paste_unclipped: paste the mask of a box that leaves the image into the whole box, the frame in which it was
                predicted. Detectron2 squeezes it into the part within the image; so do the published figures.
            kwargs: of ``GeneralizedRCNN``.
        """
        super().__init__(**kwargs)
        self.paste_unclipped = paste_unclipped

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """The constructor's arguments, from a config."""
        return {**super().from_config(cfg), "paste_unclipped": cfg.MODEL.CENTERMASK.PASTE_UNCLIPPED}

    def inference(
        self,
        batched_inputs: list[dict[str, Any]],
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> list[dict[str, Instances]] | list[Instances]:
        """The detections of each image; see ``GeneralizedRCNN.inference``.

        Returns:
            For each image ``{"instances": Instances}`` of the output size, best box score first: ``pred_boxes``
            (clipped), ``scores``, ``pred_classes``, ``pred_masks`` (M, height, width) bool, ``mask_scores`` if the mask
            IoU is on, and ``locations`` in the frame of the network's input. Without ``do_postprocess`` the Instances
            in that frame, with ``pred_masks`` (M, 1, 28, 28) probabilities.
        """
        results = super().inference(batched_inputs, detected_instances, do_postprocess=False)
        if not do_postprocess:
            return results
        outputs = []
        for result, x in zip(results, batched_inputs, strict=True):
            height, width = x.get("height", result.image_size[0]), x.get("width", result.image_size[1])
            paste = paste_into_whole_boxes if self.paste_unclipped else detector_postprocess
            outputs.append({"instances": paste(result, height, width)})
        return outputs


def paste_into_whole_boxes(results: Instances, output_height: int, output_width: int) -> Instances:
    """As ``detector_postprocess``, but each mask is pasted into its box before that is clipped to the image.

    Args:
        results: in the frame of the network's input, with ``pred_boxes`` and maybe ``pred_masks`` (M, 1, h, w).
        output_height: pixels.
        output_width: pixels.
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
