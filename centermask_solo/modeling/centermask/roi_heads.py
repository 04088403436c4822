"""CenterMask's second stage: masks, their predicted IoU and keypoints of boxes that are final already."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads import ROI_HEADS_REGISTRY, ROIHeads, build_keypoint_head, build_mask_head
from detectron2.modeling.roi_heads.roi_heads import select_proposals_with_visible_keypoints
from detectron2.structures import BitMasks, Boxes, ImageList, Instances, PolygonMasks
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from .heads import build_mask_iou_head, predict_class_masks
from .losses import mask_iou_loss, mask_loss
from .pooler import AdaptiveROIPooler
from .targets import (
    MaskTargets,
    bitmask_mask_targets,
    mask_iou_targets,
    polygon_mask_targets,
)

_POOLERS = {"ratio": AdaptiveROIPooler, "area": ROIPooler}


@ROI_HEADS_REGISTRY.register()
class CenterROIHeads(ROIHeads):
    """RoI heads without a box head: the proposals of inference are the detections.

    Without masks and keypoints they hand them through, and training is that of the proposal generator alone.
    """

    @configurable
    def __init__(
        self,
        *,
        mask_in_features: list[str] | None = None,
        mask_pooler: ROIPooler | None = None,
        mask_head: nn.Module | None = None,
        maskiou_head: nn.Module | None = None,
        maskiou_loss_weight: float = 1.0,
        keypoint_in_features: list[str] | None = None,
        keypoint_pooler: ROIPooler | None = None,
        keypoint_head: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            mask_in_features: names of the levels that masks are pooled from, finest first; None without masks.
            mask_pooler: pools them, for the mask and the mask IoU head together.
            mask_head: any of Detectron2's mask heads.
            maskiou_head: None without mask scores.
            maskiou_loss_weight: of ``loss_maskiou``.
            keypoint_in_features: as for masks; None without keypoints.
            keypoint_pooler: as for masks.
            keypoint_head: any of Detectron2's keypoint heads.
            kwargs: of ``ROIHeads``: matching and sampling.
        """
        super().__init__(**kwargs)
        self.mask_on = mask_in_features is not None
        self.mask_in_features, self.mask_pooler = mask_in_features, mask_pooler
        self.mask_head: Any = mask_head
        self.maskiou_head, self.maskiou_loss_weight = maskiou_head, maskiou_loss_weight
        self.keypoint_on = keypoint_in_features is not None
        self.keypoint_in_features, self.keypoint_pooler = keypoint_in_features, keypoint_pooler
        self.keypoint_head: Any = keypoint_head

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """The constructor's arguments, from a config and the shapes of the backbone's features."""
        if cfg.MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT != 1.0:
            raise ValueError(
                f"MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT is {cfg.MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT}, but "
                "CenterROIHeads have no box losses that it could weigh: leave it at 1.0 and set "
                "MODEL.SEM_SEG_HEAD.LOSS_WEIGHT instead."
            )
        ret = super().from_config(cfg)
        if cfg.MODEL.MASK_ON:
            features = cfg.MODEL.ROI_HEADS.IN_FEATURES
            pooler, shape = _build_pooler(cfg.MODEL.ROI_MASK_HEAD, features, input_shape)
            ret |= {"mask_in_features": features, "mask_pooler": pooler, "mask_head": build_mask_head(cfg, shape)}
            if cfg.MODEL.CENTERMASK.MASK_IOU.ENABLED:
                ret["maskiou_head"] = build_mask_iou_head(cfg, shape)
                ret["maskiou_loss_weight"] = cfg.MODEL.CENTERMASK.LOSS.MASK_IOU_WEIGHT
        if cfg.MODEL.KEYPOINT_ON:
            features = cfg.MODEL.ROI_HEADS.IN_FEATURES
            pooler, shape = _build_pooler(cfg.MODEL.ROI_KEYPOINT_HEAD, features, input_shape)
            ret |= {"keypoint_in_features": features, "keypoint_pooler": pooler}
            ret["keypoint_head"] = build_keypoint_head(cfg, shape)
        return ret

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """The losses in training, the detections with masks and mask scores in inference; see ``ROIHeads.forward``."""
        del images
        if not self.training:
            return self.forward_with_given_boxes(features, proposals), {}
        if targets is None:
            raise ValueError('Training needs the ground truth of each image: its input has no "instances".')
        losses: dict[str, Tensor] = {}
        if self.mask_on or self.keypoint_on:
            proposals = self.label_positives(proposals, targets)
        if self.mask_on:
            losses.update(self._mask_losses(features, proposals, targets))
        if self.keypoint_on:
            losses.update(self._keypoint_losses(features, proposals, targets))
        return proposals, losses

    def forward_with_given_boxes(self, features: dict[str, Tensor], instances: list[Instances]) -> list[Instances]:
        """The same instances with masks, mask scores and keypoints added, as far as these are on.

        Args:
            features: of the backbone.
            instances: for each image ``pred_boxes`` and ``pred_classes``, in the frame of the network's input.

        Returns:
            With ``pred_masks`` (M, 1, 28, 28) probabilities, and ``mask_scores`` (M,) = ``scores`` x predicted IoU, the
            IoU alone for instances without ``scores``; both also where there is no instance at all.
        """
        if self.mask_on:
            self._add_masks(features, instances)
        if self.keypoint_on:
            boxes = [x.pred_boxes for x in instances]
            x = self._pool(self.keypoint_pooler, self.keypoint_in_features, features, boxes, instances)
            instances = self.keypoint_head(x, instances)
        return instances

    @torch.no_grad()
    def label_positives(self, proposals: list[Instances], targets: list[Instances]) -> list[Instances]:
        """The RoIs that train masks and keypoints: for each image ``proposal_boxes``, ``gt_classes``, ``gt_index``.

        Detectron2's matching and sampling, on boxes and classes alone: ``gt_index`` (R,) int64 says which object is
        meant, so that neither background RoIs nor positives carry copies of ground-truth masks.
        """
        light = []
        for x in targets:
            index = torch.arange(len(x), device=x.gt_classes.device)
            light.append(Instances(x.image_size, gt_boxes=x.gt_boxes, gt_classes=x.gt_classes, gt_index=index))
        positives = []
        for sampled in self.label_and_sample_proposals(proposals, light):
            classes = sampled.gt_classes
            rows = ((classes >= 0) & (classes < self.num_classes)).nonzero()[:, 0]
            rois = Instances(sampled.image_size)
            rois.proposal_boxes, rois.gt_classes = sampled.proposal_boxes[rows], classes[rows]
            # An image without objects has no such field, and no positive.
            rois.gt_index = sampled.gt_index[rows] if sampled.has("gt_index") else rows
            positives.append(rois)
        return positives

    def _mask_losses(
        self, features: dict[str, Tensor], rois: list[Instances], targets: list[Instances]
    ) -> dict[str, Tensor]:
        """``loss_mask`` and, with a mask IoU head, ``loss_maskiou``. The latter's gradient reaches the masks too."""
        boxes = [x.proposal_boxes for x in rois]
        pooled = self._pool(self.mask_pooler, self.mask_in_features, features, boxes, rois)
        classes = torch.cat([x.gt_classes for x in rois])
        logits = predict_class_masks(self.mask_head, pooled, classes).float()
        wanted = mask_targets_of_rois(rois, targets, logits.shape[-1])
        _log_mask_accuracy(logits, wanted.masks)
        losses = {"loss_mask": mask_loss(logits, wanted.masks) * self.mask_head.loss_weight}
        if self.maskiou_head is not None:
            predicted = self.maskiou_head(pooled, logits.sigmoid(), classes)
            loss = mask_iou_loss(predicted, mask_iou_targets(logits, wanted))
            losses["loss_maskiou"] = loss * self.maskiou_loss_weight
        return losses

    def _add_masks(self, features: dict[str, Tensor], instances: list[Instances]) -> None:
        boxes = [x.pred_boxes for x in instances]
        pooled = self._pool(self.mask_pooler, self.mask_in_features, features, boxes, instances)
        classes = torch.cat([x.pred_classes for x in instances])
        masks = predict_class_masks(self.mask_head, pooled, classes).float().sigmoid()
        counts = [len(x) for x in instances]
        for x, masks_of_image in zip(instances, masks.split(counts), strict=True):
            x.pred_masks = masks_of_image[:, None]
        if self.maskiou_head is not None:
            ious = self.maskiou_head(pooled, masks, classes).float()
            for x, ious_of_image in zip(instances, ious.split(counts), strict=True):
                x.mask_scores = x.scores * ious_of_image if x.has("scores") else ious_of_image

    def _keypoint_losses(
        self, features: dict[str, Tensor], rois: list[Instances], targets: list[Instances]
    ) -> dict[str, Tensor]:
        """Detectron2's keypoint loss, of the positives with a visible keypoint in their box."""
        for x, target in zip(rois, targets, strict=True):
            if len(x) > 0:
                x.gt_keypoints = target.gt_keypoints[x.gt_index]
        rois = select_proposals_with_visible_keypoints(rois)
        boxes = [x.proposal_boxes for x in rois]
        pooled = self._pool(self.keypoint_pooler, self.keypoint_in_features, features, boxes, rois)
        return self.keypoint_head(pooled, rois)

    @staticmethod
    def _pool(
        pooler: ROIPooler | None,
        in_features: list[str] | None,
        features: dict[str, Tensor],
        boxes: list[Boxes],
        instances: list[Instances],
    ) -> Tensor:
        """The pooled features (R, C, h, w) of all images' boxes, in float32: half precision cannot hold coordinates."""
        assert pooler is not None and in_features is not None
        maps = [features[f].float() for f in in_features]
        if isinstance(pooler, AdaptiveROIPooler):
            return pooler(maps, boxes, [x.image_size for x in instances])
        return pooler(maps, boxes)


def _build_pooler(
    node: CfgNode, in_features: list[str], input_shape: dict[str, ShapeSpec]
) -> tuple[ROIPooler, ShapeSpec]:
    """The pooler that a head's options ask for, and the shape of what it gives."""
    if node.LEVEL_ASSIGNMENT not in _POOLERS:
        raise ValueError(f'LEVEL_ASSIGNMENT of an RoI head must be "ratio" or "area", not {node.LEVEL_ASSIGNMENT!r}.')
    missing = [f for f in in_features if f not in input_shape]
    if missing:
        raise ValueError(
            f"An RoI head's IN_FEATURES names {', '.join(missing)}, but there are {', '.join(input_shape)}."
        )
    pooler = _POOLERS[node.LEVEL_ASSIGNMENT](
        output_size=node.POOLER_RESOLUTION,
        scales=[1.0 / input_shape[f].stride for f in in_features],
        sampling_ratio=node.POOLER_SAMPLING_RATIO,
        pooler_type=node.POOLER_TYPE,
    )
    side = node.POOLER_RESOLUTION
    return pooler, ShapeSpec(channels=input_shape[in_features[0]].channels, height=side, width=side)


def mask_targets_of_rois(rois: list[Instances], targets: list[Instances], side: int) -> MaskTargets:
    """The mask targets of all images' RoIs, whether their ground truth is polygons or bitmasks."""
    parts = []
    for x, target in zip(rois, targets, strict=True):
        boxes = x.proposal_boxes.tensor
        if len(x) == 0:
            empty = torch.zeros((0, side, side), dtype=torch.bool, device=boxes.device)
            parts.append(MaskTargets(empty, boxes.new_zeros(0)))
        elif isinstance(target.gt_masks, PolygonMasks):
            parts.append(polygon_mask_targets(target.gt_masks.polygons, boxes, x.gt_index, side))
        elif isinstance(target.gt_masks, BitMasks):
            parts.append(bitmask_mask_targets(target.gt_masks.tensor, boxes, x.gt_index, side))
        else:
            raise ValueError(f"gt_masks must be PolygonMasks or BitMasks, not {type(target.gt_masks).__name__}.")
    return MaskTargets(*(torch.cat(x) for x in zip(*parts, strict=True)))


def _log_mask_accuracy(mask_logits: Tensor, target_masks: Tensor) -> None:
    """Put the shares of wrong cells into the event storage, under Detectron2's names, with one wait for the device."""
    if mask_logits.numel() == 0:
        return
    wrong = (mask_logits > 0) != target_masks
    counts = torch.stack([wrong.sum(), target_masks.sum(), (wrong & target_masks).sum()]).tolist()
    num_wrong, num_positive, num_missed = counts
    num_negative = target_masks.numel() - num_positive
    storage = get_event_storage()
    storage.put_scalar("mask_rcnn/accuracy", 1 - num_wrong / target_masks.numel())
    storage.put_scalar("mask_rcnn/false_positive", (num_wrong - num_missed) / max(num_negative, 1))
    storage.put_scalar("mask_rcnn/false_negative", num_missed / max(num_positive, 1))
