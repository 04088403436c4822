"""YOLACT and YOLACT++ (Bolya et al., arXiv 1904.02689 and 1912.06218): masks as combinations of prototypes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import get_event_storage, has_event_storage
from torch import Tensor

from ..instance_nms import build_instance_nms
from ..instance_segmentor import InstanceSegmentor
from .anchors import grid_anchors, level_shapes
from .decode import (
    MASK_THRESH,
    Candidates,
    decode_batch,
    decode_full_masks,
    frame_of,
    mask_probabilities,
)
from .ground_truth import ground_truth_of
from .heads import YOLACTHead, YOLACTMaskIoUHead, YOLACTProtonet, YOLACTSemSegHead
from .losses import box_loss, class_loss, mask_iou_loss, mask_loss, sem_seg_loss
from .targets import YOLACTTargets, build_targets, reduced_sizes

BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # 1 / the variances 0.1 and 0.2 of SSD


class YOLACTPredictions(NamedTuple):
    """What YOLACT's networks compute for a batch.

    Attributes:
        class_logits: (N, R, K + 1), background first; anchors by level, row, column, anchor of the cell.
        box_deltas: (N, R, 4), relative to ``anchors``.
        mask_coefficients: (N, R, E), in -1..1.
        prototypes: (N, E, h, w); an anchor's mask logits are its coefficients times these.
        anchors: (R, 4) float32, x0 y0 x1 y1 in fractions of the input.
        sem_seg_logits: (N, K, Hi, Wi) in training, else (N, K, 0, 0).
    """

    class_logits: Tensor
    box_deltas: Tensor
    mask_coefficients: Tensor
    prototypes: Tensor
    anchors: Tensor
    sem_seg_logits: Tensor


@META_ARCH_REGISTRY.register()
class YOLACT(InstanceSegmentor):
    """YOLACT. See :class:`InstanceSegmentor` for inputs and outputs; ``docs/systems/yolact.md`` for the method.

    With a mask IoU head (YOLACT++) the instances also have ``mask_scores``.
    """

    @configurable
    def __init__(
        self,
        *,
        protonet: YOLACTProtonet,
        head: YOLACTHead,
        sem_seg_head: YOLACTSemSegHead,
        mask_iou_head: YOLACTMaskIoUHead | None = None,
        head_in_features: Sequence[str],
        proto_in_feature: str,
        anchor_shapes: Sequence[Tensor],
        input_size: int,
        positive_iou: float = 0.5,
        negative_iou: float = 0.4,
        crowd_ioa: float = 0.7,
        ohem_ratio: int = 3,
        masks_to_train: int = 100,
        mask_iou_min_area: float = 25.0,
        box_loss_weight: float = 1.5,
        class_loss_weight: float = 1.0,
        mask_loss_weight: float = 6.125,
        sem_seg_loss_weight: float = 1.0,
        mask_iou_loss_weight: float = 25.0,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            protonet: prototypes from one level of the backbone's pyramid.
            head: class logits, box deltas and mask coefficients from several.
            sem_seg_head: class logits of pixels, in training.
            mask_iou_head: of YOLACT++, or None.
            head_in_features: names of the levels of ``head``, finest first.
            proto_in_feature: name of the level of ``protonet`` and ``sem_seg_head``.
            anchor_shapes: L x (A, 2), width and height of each level's anchors in input pixels.
            input_size: side of the square that images are resized to, pixels.
            positive_iou: overlap of positive anchors with their object, at least.
            negative_iou: overlap with any object below which anchors are background.
            crowd_ioa: share inside a crowd above which background anchors take no part.
            ohem_ratio: mined negatives to a positive.
            masks_to_train: positives of an image in the mask loss at most.
            mask_iou_min_area: pixels of a true mask that trains ``mask_iou_head``, strictly above.
            box_loss_weight: of ``loss_box``.
            class_loss_weight: of ``loss_class``.
            mask_loss_weight: of ``loss_mask``.
            sem_seg_loss_weight: of ``loss_sem_seg``.
            mask_iou_loss_weight: of ``loss_mask_iou``.
            kwargs: see :class:`InstanceSegmentor`; ``test_score_thresh`` is for an anchor's best class, and
                ``test_max_candidates`` for rules of NMS that do not judge each class by itself.
        """
        super().__init__(**kwargs)
        self.protonet, self.head, self.sem_seg_head = protonet, head, sem_seg_head
        self.mask_iou_head = mask_iou_head
        self.head_in_features, self.proto_in_feature = list(head_in_features), proto_in_feature
        self.anchor_shapes = list(anchor_shapes)
        self._anchors: dict[tuple[tuple[tuple[int, int], ...], torch.device], Tensor] = {}
        self.input_size = (input_size, input_size)
        self.box_transform = Box2BoxTransform(weights=BOX_WEIGHTS, scale_clamp=math.inf)
        self.positive_iou, self.negative_iou, self.crowd_ioa = positive_iou, negative_iou, crowd_ioa
        self.ohem_ratio, self.masks_to_train, self.mask_iou_min_area = ohem_ratio, masks_to_train, mask_iou_min_area
        self.box_loss_weight, self.class_loss_weight = box_loss_weight, class_loss_weight
        self.mask_loss_weight, self.sem_seg_loss_weight = mask_loss_weight, sem_seg_loss_weight
        self.mask_iou_loss_weight = mask_iou_loss_weight

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """The constructor's arguments from a config.

        Raises:
            ValueError: options that contradict each other or the backbone.
        """
        node = cfg.MODEL.YOLACT
        common = super().from_config(cfg)
        feature_shapes = common["backbone"].output_shape()
        _check_config(node, feature_shapes)
        channels = feature_shapes[node.PROTO_FEATURE].channels
        sizes, ratios = cfg.MODEL.ANCHOR_GENERATOR.SIZES, cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS
        anchor_shapes = level_shapes(sizes, ratios, len(node.IN_FEATURES), square=node.SQUARE_ANCHORS)
        return {
            **common,
            "protonet": YOLACTProtonet(in_channels=channels, num_prototypes=node.NUM_PROTOTYPES, channels=channels),
            "head": YOLACTHead(
                in_channels=channels,
                num_classes=node.NUM_CLASSES,
                num_anchors=len(anchor_shapes[0]),
                num_prototypes=node.NUM_PROTOTYPES,
            ),
            "sem_seg_head": YOLACTSemSegHead(in_channels=channels, num_classes=node.NUM_CLASSES),
            "mask_iou_head": YOLACTMaskIoUHead(num_classes=node.NUM_CLASSES) if node.MASK_IOU.ENABLED else None,
            "head_in_features": node.IN_FEATURES,
            "proto_in_feature": node.PROTO_FEATURE,
            "anchor_shapes": anchor_shapes,
            "input_size": node.INPUT_SIZE,
            "num_classes": node.NUM_CLASSES,
            "test_nms": build_instance_nms(node.NMS, ["pred_masks", "pred_boxes"]),
            "positive_iou": node.POSITIVE_IOU,
            "negative_iou": node.NEGATIVE_IOU,
            "crowd_ioa": node.CROWD_IOA,
            "ohem_ratio": node.OHEM_RATIO,
            "masks_to_train": node.MASKS_TO_TRAIN,
            "mask_iou_min_area": node.MASK_IOU.MIN_AREA,
            "box_loss_weight": node.LOSS.BOX_WEIGHT,
            "class_loss_weight": node.LOSS.CLASS_WEIGHT,
            "mask_loss_weight": node.LOSS.MASK_WEIGHT,
            "sem_seg_loss_weight": node.LOSS.SEM_SEG_WEIGHT,
            "mask_iou_loss_weight": node.LOSS.MASK_IOU_WEIGHT,
            "test_score_thresh": node.SCORE_THRESH_TEST,
            "test_max_candidates": node.PRE_NMS_TOPK_TEST,
        }

    def preprocess_image(self, batched_inputs: list[dict[str, Any]]) -> ImageList:
        """The normalized images as one batch of squares, (N, C, T_h, T_w) float32, whatever their sizes.

        Resized bilinearly in float32, without antialiasing and without keeping the aspect ratio, as the published
        weights expect; an image of the right size stays as it is.
        """
        images = []
        for x in batched_inputs:
            image = x["image"].to(self.device).float()
            if tuple(image.shape[1:]) != self.input_size:
                image = F.interpolate(image[None], self.input_size, mode="bilinear", align_corners=False)[0]
            images.append((image - self.pixel_mean) / self.pixel_std)
        return ImageList(torch.stack(images), [self.input_size] * len(images))

    def predict(self, images: Tensor) -> YOLACTPredictions:
        """What the networks compute for a normalized batch (N, C, T_h, T_w)."""
        features = self.backbone(images)
        levels = [features[f] for f in self.head_in_features]
        finest = features[self.proto_in_feature]
        deltas, logits, coefficients = self.head(levels)
        sem_seg = self.sem_seg_head(finest) if self.training else finest.new_zeros(len(images), self.num_classes, 0, 0)
        sizes = tuple((x.shape[2], x.shape[3]) for x in levels)
        anchors = self._anchors_of(sizes, images.device)
        return YOLACTPredictions(logits, deltas, coefficients, self.protonet(finest), anchors, sem_seg)

    def _anchors_of(self, sizes: tuple[tuple[int, int], ...], device: torch.device) -> Tensor:
        """The anchors of levels of these sizes, (R, 4), computed once."""
        if (sizes, device) not in self._anchors:
            self._anchors[sizes, device] = grid_anchors(sizes, self.anchor_shapes, self.input_size).to(device)
        return self._anchors[sizes, device]

    @torch.no_grad()
    def label(self, predictions: YOLACTPredictions, gt_instances: list[Instances]) -> YOLACTTargets:
        """The targets of a batch.

        Args:
            predictions: of the batch; the class logits choose the mined negatives.
            gt_instances: N ``Instances`` with ``gt_boxes``, ``gt_classes`` and masks, in the frame of the input image;
                see :func:`centermask_solo.modeling.yolact.ground_truth.ground_truth_of`.

        Raises:
            ValueError: a class outside 0..K-1.
        """
        truth = ground_truth_of(
            gt_instances,
            self.input_size,
            (predictions.prototypes.shape[2], predictions.prototypes.shape[3]),
            (predictions.sem_seg_logits.shape[2], predictions.sem_seg_logits.shape[3]),
            predictions.class_logits.device,
        )
        return build_targets(
            predictions.class_logits,
            predictions.anchors,
            truth.objects,
            truth.masks,
            truth.sem_seg_masks,
            positive_iou=self.positive_iou,
            negative_iou=self.negative_iou,
            crowd_ioa=self.crowd_ioa,
            ohem_ratio=self.ohem_ratio,
            masks_to_train=self.masks_to_train,
        )

    def losses(self, predictions: YOLACTPredictions, targets: YOLACTTargets) -> dict[str, Tensor]:
        """``loss_box``, ``loss_class``, ``loss_mask``, ``loss_sem_seg`` and, with the mask IoU head, ``loss_mask_iou``.

        Float32 scalars, already weighted; all but the semantic one are divided by the positives of the batch.
        """
        logits, deltas, coefficients, prototypes, anchors, sem_seg_logits = predictions
        num_positives = len(targets.anchors)
        if has_event_storage():
            get_event_storage().put_scalar("yolact/num_positive_anchors", num_positives)
        sums = {
            "loss_box": self.box_loss_weight * box_loss(deltas, anchors, targets, self.box_transform),
            "loss_class": self.class_loss_weight * class_loss(logits, targets),
            "loss_mask": self.mask_loss_weight * mask_loss(coefficients, prototypes, targets),
        }
        if self.mask_iou_head is not None:
            sums["loss_mask_iou"] = self.mask_iou_loss_weight * mask_iou_loss(
                self.mask_iou_head, coefficients, prototypes, targets, self.mask_iou_min_area
            )
        losses = {name: value / max(num_positives, 1) for name, value in sums.items()}
        losses["loss_sem_seg"] = self.sem_seg_loss_weight * sem_seg_loss(sem_seg_logits, targets) / len(logits)
        return losses

    @torch.no_grad()
    def inference(self, predictions: YOLACTPredictions, image_sizes: list[tuple[int, int]]) -> list[Instances]:
        """The detections of each image, best first: ``scores``, ``pred_classes``, ``pred_boxes``, not clipped, and
        ``mask_coefficients``, (M, E) float32, from which :meth:`postprocess` makes the masks; maybe ``mask_scores``.

        Args:
            predictions: of the batch.
            image_sizes: (height, width) of each image in the frame of the network's input.
        """
        candidates = decode_batch(
            predictions.class_logits,
            predictions.box_deltas,
            predictions.anchors,
            self.box_transform,
            self.test_score_thresh,
        )
        return [
            self._inference_single_image(x, predictions, i, size)
            for i, (x, size) in enumerate(zip(candidates, image_sizes, strict=True))
        ]

    def _inference_single_image(
        self, candidates: Candidates, predictions: YOLACTPredictions, index: int, image_size: tuple[int, int]
    ) -> Instances:
        """The detections of one image."""
        coefficients, prototypes = predictions.mask_coefficients[index], predictions.prototypes[index]
        if not self.test_nms.judges_each_class:
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
            found.mask_scores = found.scores * self.mask_iou_head(masks, found.pred_classes).float()
        return found

    @torch.no_grad()
    def postprocess(
        self, instances: Instances, predictions: YOLACTPredictions, index: int, output_size: tuple[int, int]
    ) -> Instances:
        """The detections of one image at ``output_size``; see :meth:`InstanceSegmentor.postprocess`.

        Differs: boxes are clipped on all sides and keep their fractions, and detections whose box lies outside of the
        image are left out. The published code clips each side in one direction only, and truncates to integers.
        """
        boxes = instances.pred_boxes.tensor
        boxes = boxes / frame_of(instances.image_size, boxes)
        clipped = Boxes(boxes * frame_of(output_size, boxes))
        clipped.clip(output_size)
        kept = clipped.nonempty()
        instances, boxes = instances[kept], boxes[kept]
        results = Instances(
            output_size, pred_boxes=clipped[kept], scores=instances.scores, pred_classes=instances.pred_classes
        )
        if instances.has("mask_scores"):
            results.mask_scores = instances.mask_scores
        results.pred_masks = decode_full_masks(
            instances.mask_coefficients,
            predictions.prototypes[index],
            boxes,  # not the clipped ones: a mask's border is that of the predicted box
            output_size,
        )
        return results


def _check_config(node: CfgNode, shapes: dict[str, ShapeSpec]) -> None:
    """Raise a ValueError where ``node`` (MODEL.YOLACT) contradicts itself or the backbone's feature maps."""
    prefix = "MODEL.YOLACT."
    for key, names in (("IN_FEATURES", node.IN_FEATURES), ("PROTO_FEATURE", [node.PROTO_FEATURE])):
        unknown = [f for f in names if f not in shapes]
        if unknown:
            raise ValueError(f"{prefix}{key} names {unknown[0]}, but the backbone gives {', '.join(shapes)}.")
    if not node.IN_FEATURES:
        raise ValueError(f"{prefix}IN_FEATURES is empty: name the levels of the head, finest first.")
    channels = {f: shapes[f].channels for f in (*node.IN_FEATURES, node.PROTO_FEATURE)}
    if len(set(channels.values())) > 1:
        raise ValueError(f"{prefix}IN_FEATURES and PROTO_FEATURE must have equally many channels, not {channels}.")
    for key in ("NUM_CLASSES", "INPUT_SIZE", "NUM_PROTOTYPES", "MASKS_TO_TRAIN"):
        if node[key] < 1:
            raise ValueError(f"{prefix}{key} must be at least 1, not {node[key]}.")
    if node.NEGATIVE_IOU > node.POSITIVE_IOU:
        raise ValueError(
            f"{prefix}NEGATIVE_IOU ({node.NEGATIVE_IOU}) must not exceed POSITIVE_IOU ({node.POSITIVE_IOU})."
        )
    smallest = YOLACTMaskIoUHead(num_classes=1).smallest_mask
    side = reduced_sizes(node.INPUT_SIZE, shapes[node.PROTO_FEATURE].stride or 1)[0][0]
    if node.MASK_IOU.ENABLED and side < smallest:
        raise ValueError(
            f"{prefix}INPUT_SIZE {node.INPUT_SIZE} gives masks of {side} pixels a side, but the mask IoU head needs "
            f"{smallest}: enlarge the input or set {prefix}MASK_IOU.ENABLED False."
        )
