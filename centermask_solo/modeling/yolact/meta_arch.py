"""YOLACT and YOLACT++ (Bolya et al., arXiv 1904.02689 and 1912.06218): masks as combinations of prototypes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import get_event_storage, has_event_storage
from torch import Tensor

from ...ops.precision import finite_scores
from ...utils.errors import ConfigError
from ..channels_last import configurable_model
from ..detections import Detections
from ..instance_segmentor import InstanceSegmentor
from ..mask_frame import MaskFrame
from ..option_checks import check_at_least
from ..semantic import SemanticHead, semantic_loss
from ..slots import BELOW, class_threshold
from .anchors import grid_anchors, resizing_to
from .arguments import arguments_from_config
from .decode import MASK_THRESH, Candidates, decode_batch, decode_full_masks, frame_of, mask_probabilities
from .ground_truth import convert_ground_truth
from .heads import KEY, YOLACTHead, YOLACTMaskIoUHead, YOLACTPredictions, YOLACTProtonet
from .losses import LossWeights, box_loss, class_loss, mask_iou_loss, mask_iou_terms, mask_loss
from .slots import detect_slots, frames_of, mask_slots
from .targets import TargetOptions, YOLACTTargets, build_targets, reduced_sizes

BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # 1 / the variances 0.1 and 0.2 of SSD


@META_ARCH_REGISTRY.register()
class YOLACT(InstanceSegmentor):
    """YOLACT. See :class:`InstanceSegmentor` for inputs and outputs, ``docs/systems/yolact.md`` for the method.

    With a mask IoU head (YOLACT++) the detections also have ``mask_scores``.
    """

    input_size: tuple[int, int]
    resizing_to = resizing_to
    anchor_shapes: Tensor

    @configurable_model
    def __init__(
        self,
        *,
        protonet: YOLACTProtonet,
        head: YOLACTHead,
        sem_seg_head: SemanticHead | None,
        mask_iou_head: YOLACTMaskIoUHead | None = None,
        head_in_features: Sequence[str],
        proto_in_feature: str,
        proto_in_stride: int,
        anchor_shapes: Tensor,
        input_size: int,
        target_options: TargetOptions = TargetOptions(),  # noqa: B008  (immutable)
        loss_weights: LossWeights = LossWeights(),  # noqa: B008  (immutable)
        mask_iou_min_area: float = 25.0,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            protonet: Computes the prototypes from one level of the backbone's pyramid.
            head: Computes class logits, box deltas and mask coefficients from several levels.
            sem_seg_head: Computes class logits of pixels, in training; None for no such loss.
            mask_iou_head: Predicts the IoU of masks (YOLACT++); None for YOLACT.
            head_in_features: Names of the levels of ``head``, finest first.
            proto_in_feature: Name of the level of ``protonet`` and ``sem_seg_head``.
            proto_in_stride: Stride of that level, input pixels.
            anchor_shapes: (L, A, 2), width and height of each level's anchors in input pixels.
            input_size: Side of the square that images are resized to, pixels.
            target_options: Numbers of the targets.
            loss_weights: Weights of the losses.
            mask_iou_min_area: Minimum area of ground-truth masks that train ``mask_iou_head``, exclusive.
            kwargs: Arguments of :class:`InstanceSegmentor`; ``test_score_thresh`` applies to an anchor's best class,
                ``test_max_candidates`` to NMS rules that are not per class.

        Raises:
            ConfigError: An option is out of range.
        """
        super().__init__(**kwargs)
        check_at_least(f"{KEY}.INPUT_SIZE", input_size, 1)
        proto_size, sem_seg_size = reduced_sizes(input_size, proto_in_stride)
        if mask_iou_head is not None and proto_size[0] < mask_iou_head.smallest_mask:
            raise ConfigError(
                f"{KEY}.INPUT_SIZE {input_size} gives masks of {proto_size[0]} pixels per side, but the mask IoU head "
                f"needs {mask_iou_head.smallest_mask}: increase it or set {KEY}.MASK_IOU.ENABLED False"
            )
        self.protonet, self.head, self.sem_seg_head, self.mask_iou_head = protonet, head, sem_seg_head, mask_iou_head
        self.head_in_features, self.proto_in_feature = list(head_in_features), proto_in_feature
        self.input_size = (input_size, input_size)
        self.gt_mask_sizes = {"gt_prototype_masks": proto_size, "gt_sem_seg_masks": sem_seg_size}
        # In fractions of the input, which is square; not persistent, because the config has them.
        self.register_buffer("anchor_shapes", (anchor_shapes.double() / input_size).float(), persistent=False)
        self.box_transform = Box2BoxTransform(weights=BOX_WEIGHTS, scale_clamp=math.inf)
        self.target_options, self.loss_weights = target_options, loss_weights
        self.mask_iou_min_area = mask_iou_min_area

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Return the constructor arguments from a config.

        Raises:
            ConfigError: Options contradict each other or the backbone.
        """
        common = super().from_config(cfg)
        return common | arguments_from_config(cfg, common["backbone"])

    def predict(self, images: Tensor) -> YOLACTPredictions:
        """Return what the networks compute for a normalized batch (N, C, T_h, T_w), without semantic segmentation."""
        return self._predict(self.backbone(images))

    def predict_for_training(self, images: Tensor) -> YOLACTPredictions:
        """Return the result of :meth:`predict` with semantic segmentation."""
        features = self.backbone(images)
        predictions = self._predict(features)
        if self.sem_seg_head is None:
            return predictions
        return YOLACTPredictions(*predictions[:-1], self.sem_seg_head(features[self.proto_in_feature]))

    def _predict(self, features: dict[str, Tensor]) -> YOLACTPredictions:
        """Return what the heads compute from the backbone's features."""
        levels = [features[f] for f in self.head_in_features]
        deltas, logits, coefficients = self.head(levels)
        anchors = grid_anchors([(x.shape[2], x.shape[3]) for x in levels], self.anchor_shapes)
        prototypes = self.protonet(features[self.proto_in_feature])
        return YOLACTPredictions(logits, deltas, coefficients, prototypes, anchors)

    @torch.no_grad()
    def label(self, predictions: YOLACTPredictions, gt_instances: list[Instances]) -> YOLACTTargets:
        """Return the targets of a batch.

        Args:
            predictions: Predictions of the batch; their class logits determine the mined negatives.
            gt_instances: N ``Instances`` as :func:`convert_ground_truth` takes them.

        Raises:
            DataError: A class is outside 0..K-1, or masks are missing or have other sizes.
        """
        sizes = self.gt_mask_sizes["gt_prototype_masks"], self.gt_mask_sizes["gt_sem_seg_masks"]
        return build_targets(
            predictions.class_logits,
            predictions.anchors,
            convert_ground_truth(gt_instances, self.input_size, *sizes, predictions.class_logits.device),
            self.target_options,
        )

    def losses(self, predictions: YOLACTPredictions, targets: YOLACTTargets) -> dict[str, Tensor]:
        """Return ``loss_box``, ``loss_class``, ``loss_mask``; with their heads ``loss_sem_seg`` and ``loss_mask_iou``.

        Weighted float32 scalars.
        """
        logits, deltas, coefficients, prototypes, anchors, sem_seg_logits = predictions
        if sem_seg_logits is None and self.sem_seg_head is not None:
            raise ValueError("losses need the predictions of predict_for_training, which have sem_seg_logits")
        if has_event_storage():
            get_event_storage().put_scalar("yolact/num_positive_anchors", len(targets.anchors))
        weights = self.loss_weights
        losses = {
            "loss_box": weights.box * box_loss(deltas, anchors, targets, self.box_transform),
            "loss_class": weights.classes * class_loss(logits, targets),
            "loss_mask": weights.mask * mask_loss(coefficients, prototypes, targets),
        }
        if sem_seg_logits is not None:
            losses["loss_sem_seg"] = weights.sem_seg * semantic_loss(sem_seg_logits, targets.sem_seg)
        if self.mask_iou_head is not None:
            terms = mask_iou_terms(coefficients, prototypes, targets, self.mask_iou_min_area)
            pred_ious = self.mask_iou_head(terms.masks, targets.classes[terms.instances])
            losses["loss_mask_iou"] = weights.mask_iou * mask_iou_loss(pred_ious, terms, targets)
        return losses

    @torch.no_grad()
    def inference(
        self, predictions: YOLACTPredictions, image_sizes: list[tuple[int, int]], *, min_score: float = 0.0
    ) -> list[Instances]:
        """Return the detections of each image, best first, without masks.

        Args:
            predictions: Predictions of the batch.
            image_sizes: (height, width) of each image in the frame of the network input.
            min_score: See :meth:`InstanceSegmentor.inference`.

        Returns:
            For each image ``scores``, ``pred_classes``, ``pred_boxes``, not clipped, and ``mask_coefficients``, (M, E)
            float32, from which :meth:`paste` computes the masks; with the mask IoU head also ``mask_scores``.
        """
        thresholds = class_threshold(self.test_score_thresh, min_score), min_score * BELOW
        logits, deltas, anchors = predictions.class_logits, predictions.box_deltas, predictions.anchors
        candidates = decode_batch(logits, deltas, anchors, self.box_transform, *thresholds)
        return [
            self._inference_single_image(x, predictions, i, size)
            for i, (x, size) in enumerate(zip(candidates, image_sizes, strict=True))
        ]

    @property
    def has_fixed_shapes(self) -> bool:
        """Whether :meth:`detect` finds what :meth:`inference` does: with a limit, and with FastNMS."""
        return self.test_max_detections > 0 and self.test_nms.name == "FastNMS"

    @torch.no_grad()
    def detect(self, predictions: YOLACTPredictions, image_sizes: Tensor, max_detections: int) -> Detections:
        """Return the detections of a batch; see :meth:`InstanceSegmentor.detect`.

        With ``mask_coefficients`` (N, K, E) float32 and, with the mask IoU head, ``mask_scores`` (N, K) float32.
        """
        if self.test_nms.name != "FastNMS":
            raise ConfigError(f"{KEY}.NMS.NAME {self.test_nms.name} has no fixed shape: to export, choose FastNMS")
        frames = frames_of(image_sizes)
        found = detect_slots(
            predictions,
            frames,
            self.box_transform,
            score_thresh=self.test_score_thresh,
            nms=self.test_nms.options,
            max_candidates=self.test_max_candidates,
            max_detections=max_detections,
            limit=self.test_max_detections,
        )
        if self.mask_iou_head is not None:
            masks = mask_slots(found, predictions.prototypes, found.boxes / frames).flatten(0, 1)
            ious = finite_scores(self.mask_iou_head(masks, found.classes.flatten()))
            found.fields["mask_scores"] = found.scores * ious.view_as(found.scores)
        return found

    @torch.no_grad()
    def mask_probabilities(self, detections: Detections, predictions: YOLACTPredictions) -> Tensor:
        """Return the masks of all slots at the size of the prototypes, (N, K, h, w) float32, 0 in empty slots."""
        boxes = detections.boxes / frame_of(self.input_size, detections.boxes)
        return mask_slots(detections, predictions.prototypes, boxes)

    @property
    def mask_frame(self) -> MaskFrame:
        """What the masks of ``mask_probabilities`` mean: they have the size of the prototypes."""
        return MaskFrame("input", threshold=MASK_THRESH)

    def _inference_single_image(
        self, candidates: Candidates, predictions: YOLACTPredictions, index: int, image_size: tuple[int, int]
    ) -> Instances:
        """Return the detections of one image."""
        coefficients, prototypes = predictions.mask_coefficients[index], predictions.prototypes[index]
        if not self.test_nms.per_class:
            order = candidates.scores.argsort(descending=True, stable=True)[: self.test_max_candidates]
            candidates = Candidates(*(x[order] for x in candidates))
        instances = Instances(
            (int(image_size[0]), int(image_size[1])),
            scores=candidates.scores,
            pred_classes=candidates.pred_classes,
            class_scores=candidates.class_scores,
            pred_boxes=Boxes(candidates.boxes * frame_of(image_size, candidates.boxes)),
            anchors=candidates.anchors,
        )
        if "pred_masks" in self.test_nms.inputs:
            instances.pred_masks = (
                mask_probabilities(coefficients[candidates.anchors], prototypes, candidates.boxes) > MASK_THRESH
            )
        kept = self.suppress(instances)
        found = Instances(
            kept.image_size,
            pred_boxes=kept.pred_boxes,
            scores=kept.scores,
            pred_classes=kept.pred_classes,
            mask_coefficients=coefficients[kept.anchors].float(),
        )
        if self.mask_iou_head is not None:
            boxes = found.pred_boxes.tensor / frame_of(image_size, candidates.boxes)
            masks = mask_probabilities(found.mask_coefficients, prototypes, boxes)
            found.mask_scores = found.scores * finite_scores(self.mask_iou_head(masks, found.pred_classes))
        return found

    @torch.no_grad()
    def paste(
        self, instances: Instances, predictions: YOLACTPredictions, index: int, output_size: tuple[int, int]
    ) -> tuple[Instances, Tensor]:
        """Return the detections of one image at ``output_size``, and which stay: see :meth:`InstanceSegmentor.paste`.

        Differs: boxes are clipped on all sides and keep their fractions, and detections whose box lies outside of the
            image are dropped. The published code clips each side in one direction only, and truncates to integers.
        """
        boxes = instances.pred_boxes.tensor
        boxes = boxes / frame_of(instances.image_size, boxes)
        frame = frame_of(output_size, boxes)
        clipped = Boxes((boxes * frame).clamp(min=0).minimum(frame))
        results = Instances(
            output_size, pred_boxes=clipped, scores=instances.scores, pred_classes=instances.pred_classes
        )
        if instances.has("mask_scores"):
            results.mask_scores = instances.mask_scores
        results.pred_masks = decode_full_masks(
            instances.mask_coefficients,
            predictions.prototypes[index],
            boxes,  # not clipped: masks are cropped with the predicted box
            output_size,
        )
        return results, clipped.nonempty()
