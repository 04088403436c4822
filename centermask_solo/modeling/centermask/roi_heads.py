"""CenterMask's second stage: masks, their predicted IoU, and keypoints of final boxes."""

from __future__ import annotations

from itertools import islice
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads import ROI_HEADS_REGISTRY, ROIHeads, build_keypoint_head, build_mask_head
from detectron2.modeling.roi_heads.roi_heads import select_proposals_with_visible_keypoints
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn

from ...ops.precision import at_least_float32
from ...utils.errors import ConfigError, DataError
from ..detections import Detections
from .config_checks import check_config
from .heads import MaskIoUHead, RoIPredictions, predict_class_masks
from .logs import log_mask_accuracy, log_samples
from .losses import mask_iou_loss, mask_loss
from .matching import match_classes
from .pooler import build_roi_pooler, pool
from .sampling import masks_of, sample_rois
from .targets import MaskTargets, mask_iou_targets, mask_targets


class RoITrainingOutputs(NamedTuple):
    """The outputs for the RoIs that train; None where a branch is off."""

    masks: RoIPredictions | None
    keypoints: tuple[Tensor, list[Instances]] | None  # pooled features (R', C, side, side), RoIs with visible keypoints


class RoITargets(NamedTuple):
    """The RoIs that train masks and keypoints, and the targets of their masks."""

    rois: list[Instances]  # for each image ``proposal_boxes``, ``gt_classes``, ``gt_index`` and maybe ``gt_keypoints``
    masks: MaskTargets | None  # None without masks


@ROI_HEADS_REGISTRY.register()
class CenterROIHeads(ROIHeads):
    """RoI heads without a box head: the proposals are the detections.

    Without masks and keypoints the proposals pass through, and only the proposal generator is trained.
    """

    @configurable
    def __init__(
        self,
        *,
        mask_in_features: list[str] | None = None,
        mask_pooler: ROIPooler | None = None,
        mask_head: nn.Module | None = None,
        maskiou_head: MaskIoUHead | None = None,
        maskiou_loss_weight: float = 1.0,
        keypoint_in_features: list[str] | None = None,
        keypoint_pooler: ROIPooler | None = None,
        keypoint_head: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            mask_in_features: Names of the levels to pool masks from, finest first; None without masks.
            mask_pooler: Pools them, for both the mask and the mask IoU head.
            mask_head: Any of Detectron2's mask heads whose masks have twice the pooled size.
            maskiou_head: Predicts the IoU of the masks; None without mask scores.
            maskiou_loss_weight: Weight of ``loss_maskiou``.
            keypoint_in_features: Like ``mask_in_features``; None without keypoints.
            keypoint_pooler: Like ``mask_pooler``.
            keypoint_head: Any of Detectron2's keypoint heads.
            kwargs: Arguments of ``ROIHeads``: matching and sampling.
        """
        super().__init__(**kwargs)
        self.mask_on = mask_in_features is not None
        self.mask_in_features, self.mask_pooler = mask_in_features or [], mask_pooler
        self.mask_head: Any = mask_head
        self.maskiou_head, self.maskiou_loss_weight = maskiou_head, maskiou_loss_weight
        self.keypoint_on = keypoint_in_features is not None
        self.keypoint_in_features, self.keypoint_pooler = keypoint_in_features or [], keypoint_pooler
        self.keypoint_head: Any = keypoint_head

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Return the constructor's arguments from a config and the shapes of the backbone's features.

        Raises:
            ConfigError: Options contradict each other or the backbone.
        """
        check_config(cfg)
        ret = super().from_config(cfg)
        if cfg.MODEL.MASK_ON:
            features = cfg.MODEL.ROI_HEADS.IN_FEATURES
            pooler, shape = build_roi_pooler(cfg.MODEL.ROI_MASK_HEAD, features, input_shape)
            ret |= {"mask_in_features": features, "mask_pooler": pooler, "mask_head": build_mask_head(cfg, shape)}
            if cfg.MODEL.CENTERMASK.MASK_IOU.ENABLED:
                ret["maskiou_head"] = MaskIoUHead(cfg, shape)
                ret["maskiou_loss_weight"] = cfg.MODEL.CENTERMASK.LOSS.MASK_IOU_WEIGHT
        if cfg.MODEL.KEYPOINT_ON:
            features = cfg.MODEL.ROI_HEADS.IN_FEATURES
            pooler, shape = build_roi_pooler(cfg.MODEL.ROI_KEYPOINT_HEAD, features, input_shape)
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
        """Return the RoIs and losses in training, the completed detections at inference; see ``ROIHeads.forward``."""
        del images
        if not self.training:
            return self.forward_with_given_boxes(features, proposals), {}
        if targets is None:
            raise DataError('training needs ground truth for every image, but the input has no "instances"')
        labeled = self.label(proposals, targets)
        outputs = self.predict_training(features, labeled)
        log_mask_accuracy(outputs.masks, labeled.masks)
        return labeled.rois, self.weigh(self.losses(outputs, labeled))

    def forward_with_given_boxes(self, features: dict[str, Tensor], instances: list[Instances]) -> list[Instances]:
        """Add masks, mask scores and keypoints to ``instances``, as far as they are on, and return them.

        Args:
            features: Features of the backbone by name.
            instances: For each image ``pred_boxes`` and ``pred_classes``, in the frame of the network's input.

        Returns:
            With ``pred_masks`` (M, 1, 28, 28), probabilities, and ``mask_scores`` (M,), ``scores`` x predicted IoU to
            the power of ``MASK_IOU.EXPONENT``, without ``scores`` that power; also for images without instances.
        """
        if self.mask_on:
            self._add_masks(features, instances)
        if self.keypoint_on:
            pooled = self._pool_keypoints(features, [x.pred_boxes for x in instances], instances)
            instances = self.keypoint_head(pooled, instances)
        return instances

    def detect(self, features: dict[str, Tensor], detections: Detections, image_sizes: Tensor) -> Detections:
        """Return ``detections`` with masks and mask scores, as :meth:`forward_with_given_boxes`, in fixed shapes.

        Args:
            features: Features of the backbone by name.
            detections: Boxes and classes in K slots per image.
            image_sizes: (N, 2) int64, height and width of each image before padding.

        Returns:
            With the fields ``pred_masks`` (N, K, 1, 28, 28), probabilities, and ``mask_scores`` (N, K).

        Raises:
            ConfigError: Keypoints are on.
        """
        if self.keypoint_on:
            raise ConfigError("keypoints have no fixed shape: set MODEL.KEYPOINT_ON to False")
        if not self.mask_on:
            return detections
        shape = detections.scores.shape
        logits, ious = self.predict(features, detections.boxes, detections.classes.flatten(), image_sizes)
        is_used = detections.scores > 0
        masks = logits.float().sigmoid()[:, None].unflatten(0, shape)
        fields = {"pred_masks": torch.where(is_used[:, :, None, None, None], masks, 0.0)}
        if ious is not None and self.maskiou_head is not None:
            fields["mask_scores"] = detections.scores * self.maskiou_head.factor(ious).unflatten(0, shape)
        return detections.with_fields({**detections.fields, **fields})

    def predict(
        self,
        features: dict[str, Tensor],
        boxes: list[Boxes] | Tensor,
        classes: Tensor,
        image_sizes: list[tuple[int, int]] | Tensor,
    ) -> RoIPredictions:
        """Return the outputs of the mask heads for RoIs, independent of the mode.

        Args:
            features: Features of the backbone by name.
            boxes: The RoIs of each image in the frame of the network's input; or (N, K, 4), as many of each image.
            classes: (R,) int64, class of each RoI, of all images.
            image_sizes: (height, width) of each image before padding; (N, 2) int64 for a tensor of boxes.
        """
        assert self.mask_pooler is not None
        pooled = pool(self.mask_pooler, self.mask_in_features, features, boxes, image_sizes)
        logits = at_least_float32(predict_class_masks(self.mask_head, pooled, classes))
        if self.maskiou_head is None:
            return RoIPredictions(logits, None)
        return RoIPredictions(logits, at_least_float32(self.maskiou_head(pooled, logits.sigmoid(), classes)))

    @torch.no_grad()
    def label(self, proposals: list[Instances], gt_instances: list[Instances]) -> RoITargets:
        """Return the RoIs to train on and their mask targets.

        Args:
            proposals: ``proposal_boxes`` and ``objectness_logits`` of each image.
            gt_instances: Ground truth of each image in the frame of the network's input, on any device.

        Raises:
            DataError: Masks are on and an image with positives has none.
        """
        if not (self.mask_on or self.keypoint_on):
            return RoITargets(proposals, None)
        rois = self.label_positives(proposals, gt_instances)
        if not self.mask_on:
            return RoITargets(rois, None)
        assert self.mask_pooler is not None
        masks = mask_targets(
            [masks_of(gt) if len(x) > 0 else None for x, gt in zip(rois, gt_instances, strict=True)],
            [x.proposal_boxes.tensor for x in rois],
            [x.gt_index for x in rois],
            side=2 * self.mask_pooler.output_size[0],
        )
        return RoITargets(rois, masks)

    @torch.no_grad()
    def label_positives(self, proposals: list[Instances], gt_instances: list[Instances]) -> list[Instances]:
        """Return the RoIs of each image to train on: ``proposal_boxes``, ``gt_classes``, ``gt_index``, and keypoints.

        Detectron2's matching and sampling, but a bounded number of proposals is matched at a time, and ``gt_index``
        (R,) int64, on the host, refers to the object, so that no RoI carries a copy of a ground-truth mask. Background
        is dropped. The host reads once, how all proposals of the batch match, and samples.
        """
        boxes, matches = [], []
        for x, gt in zip(proposals, gt_instances, strict=True):
            of_image = x.proposal_boxes.tensor
            given = gt.gt_boxes.tensor, gt.gt_classes
            gt_boxes, gt_classes = (y.to(of_image.device, non_blocking=True) for y in given)
            boxes.append(torch.cat([of_image, gt_boxes]) if self.proposal_append_gt else of_image)
            matches.append(match_classes(self.proposal_matcher, boxes[-1], gt_boxes, gt_classes, self.num_classes))
        index, classes = map(iter, torch.cat(matches, dim=1).tolist())

        options = (self.num_classes, self.batch_size_per_image, self.positive_fraction)
        positives, num_background = [], []
        for of_image, x, gt in zip(boxes, proposals, gt_instances, strict=True):
            own_index, own_classes = (list(islice(y, len(of_image))) for y in (index, classes))
            rois, num_negatives = sample_rois(of_image, own_index, own_classes, x.image_size, *options)
            if self.keypoint_on and len(rois) > 0:
                rois.gt_keypoints = gt.gt_keypoints[rois.gt_index].to(of_image.device, non_blocking=True)
            positives.append(rois)
            num_background.append(num_negatives)
        log_samples([len(x) for x in positives], num_background)
        return positives

    def predict_training(self, features: dict[str, Tensor], targets: RoITargets) -> RoITrainingOutputs:
        """Return the outputs for the RoIs of ``targets``: see :meth:`predict`."""
        masks = keypoints = None
        rois = targets.rois
        if targets.masks is not None:
            boxes, sizes = [x.proposal_boxes for x in rois], [x.image_size for x in rois]
            masks = self.predict(features, boxes, torch.cat([x.gt_classes for x in rois]), sizes)
        if self.keypoint_on:
            visible = select_proposals_with_visible_keypoints(rois)
            keypoints = self._pool_keypoints(features, [x.proposal_boxes for x in visible], visible), visible
        return RoITrainingOutputs(masks, keypoints)

    def losses(self, outputs: RoITrainingOutputs, targets: RoITargets) -> dict[str, Tensor]:
        """Return the mean losses, not weighted: see :meth:`weigh`.

        ``loss_mask`` and, with a mask IoU head, ``loss_maskiou``, whose gradient also reaches the masks;
        ``loss_keypoint`` with keypoints, from Detectron2's head, which weights and logs it itself.
        """
        losses: dict[str, Tensor] = {}
        if outputs.masks is not None:
            assert targets.masks is not None
            logits, ious = outputs.masks
            losses["loss_mask"] = mask_loss(logits, targets.masks.masks)
            if ious is not None:
                losses["loss_maskiou"] = mask_iou_loss(ious, mask_iou_targets(logits, targets.masks))
        if outputs.keypoints is not None:
            losses |= self.keypoint_head(*outputs.keypoints)
        return losses

    def weigh(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the result of :meth:`losses` multiplied by the weights of the losses."""
        weights = {"loss_maskiou": self.maskiou_loss_weight}
        if self.mask_on:
            weights["loss_mask"] = self.mask_head.loss_weight
        return {name: loss * weights.get(name, 1.0) for name, loss in losses.items()}

    def _add_masks(self, features: dict[str, Tensor], instances: list[Instances]) -> None:
        """Set ``pred_masks`` and, with a mask IoU head, ``mask_scores``, in float32."""
        boxes, sizes = [x.pred_boxes for x in instances], [x.image_size for x in instances]
        logits, ious = self.predict(features, boxes, torch.cat([x.pred_classes for x in instances]), sizes)
        counts = [len(x) for x in instances]
        for x, masks_of_image in zip(instances, logits.float().sigmoid().split(counts), strict=True):
            x.pred_masks = masks_of_image[:, None]
        if ious is not None and self.maskiou_head is not None:
            for x, factors in zip(instances, self.maskiou_head.factor(ious).split(counts), strict=True):
                x.mask_scores = x.scores * factors if x.has("scores") else factors

    def _pool_keypoints(self, features: dict[str, Tensor], boxes: list[Boxes], instances: list[Instances]) -> Tensor:
        assert self.keypoint_pooler is not None
        sizes = [x.image_size for x in instances]
        return pool(self.keypoint_pooler, self.keypoint_in_features, features, boxes, sizes)
