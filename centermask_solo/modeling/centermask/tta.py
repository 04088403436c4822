"""Test-time augmentation with mask scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import GeneralizedRCNN, GeneralizedRCNNWithTTA, PanopticFPN, detector_postprocess
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ...structures.mask_formats import in_parts
from ...utils.errors import ConfigError
from ..batches import run_by_padded_size
from ..instance_nms import InstanceNMS, NMSOptions


class CenterMaskWithTTA(GeneralizedRCNNWithTTA):
    """CenterMask with test-time augmentation (``TEST.AUG``): boxes merged, masks and their IoUs averaged.

    Two passes, as in Detectron2: first boxes without masks, mapped back to the original image, clipped and merged; then
    the masks of the merged boxes in every augmented image. Merging uses the options of Detectron2's class, not FCOS's:
    ``MODEL.ROI_HEADS.NMS_THRESH_TEST`` (0.5) and ``TEST.DETECTIONS_PER_IMAGE`` (100).

    Differs: mask scores are averaged too, which Detectron2's class does not know; boxes are merged without a loop.
    """

    def __init__(
        self,
        cfg: CfgNode,
        model: nn.Module,
        tta_mapper: Callable[[dict[str, Any]], list[dict[str, Any]]] | None = None,
        batch_size: int = 3,
    ) -> None:
        """
        Args:
            cfg: Config of the model; ``TEST.AUG`` sets the augmentations.
            model: CenterMask, or another ``GeneralizedRCNN`` (without mask scores); not a panoptic model.
            tta_mapper: Returns the augmented versions of an input; Detectron2's by default.
            batch_size: Number of augmented images that run at once.

        Raises:
            ConfigError: The model is of another kind.
        """
        if isinstance(model, DistributedDataParallel):
            model = model.module
        if not isinstance(model, GeneralizedRCNN) or isinstance(model, PanopticFPN):
            raise ConfigError(
                f"test-time augmentation does not support {type(model).__name__}: set TEST.AUG.ENABLED to False"
            )
        super().__init__(cfg, model, tta_mapper, batch_size)
        self.nms = InstanceNMS("BatchedNMS", NMSOptions(iou_thresh=cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST))

    def _batch_inference(self, batched_inputs: list[Any], detected_instances: list[Any] | None = None) -> list[Any]:
        """Return the model's results, unprocessed, from at most ``batch_size`` images of one padded size at once."""

        def infer(indices: list[int]) -> list[Any]:
            given = None if detected_instances is None else [detected_instances[i] for i in indices]
            return super(CenterMaskWithTTA, self)._batch_inference([batched_inputs[i] for i in indices], given)

        return run_by_padded_size(infer, batched_inputs, self.model)

    def _inference_one_image(self, input: dict[str, Any]) -> dict[str, Instances]:
        """Return the detections of one image at its original size."""
        original_size = (input["height"], input["width"])
        augmented, transforms = self._get_augmented_inputs(input)
        with self._turn_off_roi_heads(["mask_on", "keypoint_on"]):
            boxes, scores, classes = self._get_augmented_boxes(augmented, transforms)
        merged = self._merge_detections(boxes, scores, classes, original_size)
        if not self.model.roi_heads.mask_on:
            return {"instances": merged}
        outputs = self._batch_inference(augmented, self._rescale_detected_boxes(augmented, merged, transforms))
        merged.pred_masks = self._reduce_pred_masks(outputs, transforms)
        if outputs[0].has("mask_scores"):
            merged.mask_scores = torch.stack([x.mask_scores for x in outputs]).mean(dim=0)
        return {"instances": in_parts(lambda x: detector_postprocess(x, *original_size), merged, original_size, input)}

    def _merge_detections(
        self, all_boxes: Tensor, all_scores: list[Tensor], all_classes: list[Tensor], shape_hw: tuple[int, int]
    ) -> Instances:
        """Return the best boxes of all augmented images, clipped, in the frame of the original image."""
        merged = Instances(shape_hw)
        merged.pred_boxes = Boxes(all_boxes)
        merged.pred_boxes.clip(shape_hw)
        merged.scores = torch.stack(all_scores) if all_scores else all_boxes.new_zeros(0)
        merged.pred_classes = torch.stack(all_classes) if all_classes else all_boxes.new_zeros(0, dtype=torch.int64)
        return self.nms(merged)[: self.cfg.TEST.DETECTIONS_PER_IMAGE]
