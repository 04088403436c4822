"""SOLOv2 (Wang et al., arXiv 2003.10152): instance masks from dynamic kernels, without boxes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import get_event_storage, has_event_storage
from torch import Tensor

from ...ops.masks import masks_to_boxes
from ..ground_truth import mask_chunks
from ..instance_nms import build_instance_nms
from ..instance_segmentor import InstanceSegmentor
from .decode import decode_full_masks, decode_image
from .heads import SOLOv2InstanceHead, SOLOv2MaskHead
from .losses import class_loss, mask_loss
from .targets import MASK_STRIDE, SOLOv2Targets, build_targets, summarize_masks


class SOLOv2Predictions(NamedTuple):
    """What SOLOv2's networks compute for a batch.

    Attributes:
        class_logits: L x (N, K, S, S).
        kernels: L x (N, E, S, S).
        mask_features: (N, E, T_h / 4, T_w / 4); a cell's mask logits are its kernel times these.
    """

    class_logits: list[Tensor]
    kernels: list[Tensor]
    mask_features: Tensor


@META_ARCH_REGISTRY.register()
class SOLOv2(InstanceSegmentor):
    """SOLOv2. See :class:`InstanceSegmentor` for inputs and outputs; ``docs/systems/solov2.md`` for the method."""

    @configurable
    def __init__(
        self,
        *,
        instance_head: SOLOv2InstanceHead,
        mask_head: SOLOv2MaskHead,
        instance_in_features: Sequence[str],
        mask_in_features: Sequence[str],
        scale_ranges: Sequence[tuple[float, float]],
        sigma: float = 0.2,
        focal_alpha: float = 0.25,
        focal_gamma: float = 2.0,
        class_loss_weight: float = 1.0,
        mask_loss_weight: float = 3.0,
        test_mask_thresh: float = 0.5,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            instance_head: class logits and kernels; its ``num_grids`` are those of the targets.
            mask_head: mask features, at stride 4.
            instance_in_features: names of the feature maps of ``instance_head``.
            mask_in_features: names of the feature maps of ``mask_head``, finest first.
            scale_ranges: smallest and largest sqrt(box area) that each level is trained on, in input pixels.
            sigma: side of the region whose cells an instance claims, relative to its box.
            focal_alpha: weight of positive entries in the class loss.
            focal_gamma: exponent of the class loss.
            class_loss_weight: of ``loss_cate``.
            mask_loss_weight: of ``loss_ins``.
            test_mask_thresh: probability of a mask's pixels, strictly above.
            kwargs: see :class:`InstanceSegmentor`.
        """
        super().__init__(**kwargs)
        self.ins_head = instance_head  # both named as in AdelaiDet's checkpoints
        self.mask_head = mask_head
        self.instance_in_features = list(instance_in_features)
        self.mask_in_features = list(mask_in_features)
        self.scale_ranges = [(low, high) for low, high in scale_ranges]
        self.sigma = sigma
        self.focal_alpha, self.focal_gamma = focal_alpha, focal_gamma
        self.class_loss_weight, self.mask_loss_weight = class_loss_weight, mask_loss_weight
        self.test_mask_thresh = test_mask_thresh

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """The constructor's arguments from a config.

        Raises:
            ValueError: options that contradict each other or the backbone.
        """
        node = cfg.MODEL.SOLOV2
        common = super().from_config(cfg)
        feature_shapes = common["backbone"].output_shape()
        _check_config(node, feature_shapes)
        shapes = [feature_shapes[f] for f in node.IN_FEATURES]
        modulated = node.DEFORM_MODULATED
        return {
            **common,
            "instance_head": SOLOv2InstanceHead(
                in_channels=shapes[0].channels,
                in_strides=[s.stride for s in shapes],
                level_strides=node.STRIDES,
                num_grids=node.NUM_GRIDS,
                num_classes=node.NUM_CLASSES,
                kernel_length=node.NUM_MASKS,
                channels=node.INSTANCE_CHANNELS,
                num_convs=node.NUM_INSTANCE_CONVS,
                norm=node.NORM,
                deformable=node.DEFORM_IN_INSTANCE,
                modulated=modulated,
                prior_prob=node.PRIOR_PROB,
            ),
            "mask_head": SOLOv2MaskHead(
                in_channels=feature_shapes[node.MASK_IN_FEATURES[0]].channels,
                num_levels=len(node.MASK_IN_FEATURES),
                channels=node.MASK_CHANNELS,
                kernel_length=node.NUM_MASKS,
                norm=node.NORM,
                deformable=node.DEFORM_IN_MASK,
                modulated=modulated,
            ),
            "instance_in_features": node.IN_FEATURES,
            "mask_in_features": node.MASK_IN_FEATURES,
            "num_classes": node.NUM_CLASSES,
            "scale_ranges": node.SCALE_RANGES,
            "sigma": node.SIGMA,
            "focal_alpha": node.LOSS.FOCAL_ALPHA,
            "focal_gamma": node.LOSS.FOCAL_GAMMA,
            "class_loss_weight": node.LOSS.CLASS_WEIGHT,
            "mask_loss_weight": node.LOSS.MASK_WEIGHT,
            "test_nms": build_instance_nms(node.NMS, ["pred_masks", "pred_boxes"]),
            "test_score_thresh": node.SCORE_THRESH_TEST,
            "test_mask_thresh": node.MASK_THRESH_TEST,
            "test_max_candidates": node.PRE_NMS_TOPK_TEST,
        }

    def predict(self, images: Tensor) -> SOLOv2Predictions:
        """Class logits, kernels and mask features of a normalized, padded batch (N, C, T_h, T_w)."""
        features = self.backbone(images)
        class_logits, kernels = self.ins_head([features[f] for f in self.instance_in_features])
        mask_features = self.mask_head([features[f] for f in self.mask_in_features])
        return SOLOv2Predictions(class_logits, kernels, mask_features)

    @torch.no_grad()
    def label(self, predictions: SOLOv2Predictions, gt_instances: list[Instances]) -> SOLOv2Targets:
        """The targets of a batch.

        Args:
            predictions: of the batch; their mask features say how large the padded input is.
            gt_instances: N ``Instances`` with ``gt_boxes``, ``gt_classes`` and ``gt_masks`` (``BitMasks``,
                ``PolygonMasks`` or a bool tensor (M, h, w)) in the frame of the unpadded input.

        Raises:
            ValueError: a class outside 0..K-1.
        """
        device = predictions.mask_features.device
        map_size = (predictions.mask_features.shape[2], predictions.mask_features.shape[3])
        chunks = chain.from_iterable(mask_chunks(x, torch.arange(len(x), device=device)) for x in gt_instances)
        return build_targets(
            summarize_masks(chunks, sum(len(x) for x in gt_instances), map_size, device),
            [x.gt_boxes.tensor.to(device) for x in gt_instances],
            [x.gt_classes.to(device, torch.int64) for x in gt_instances],
            num_classes=self.num_classes,
            num_grids=self.ins_head.num_grids,
            scale_ranges=self.scale_ranges,
            sigma=self.sigma,
        )

    def losses(self, predictions: SOLOv2Predictions, targets: SOLOv2Targets) -> dict[str, Tensor]:
        """``loss_ins`` (masks, dice) and ``loss_cate`` (classes, focal): float32 scalars, already weighted.

        The keys are AdelaiDet's, which its users have in their logs.
        """
        if has_event_storage():
            storage = get_event_storage()
            storage.put_scalar("solov2/num_positive_cells", targets.num_positive)
            storage.put_scalar("solov2/num_dice_terms", len(targets.term_cells))
        mask = mask_loss(predictions.kernels, predictions.mask_features, targets)
        classes = class_loss(predictions.class_logits, targets, alpha=self.focal_alpha, gamma=self.focal_gamma)
        return {"loss_ins": self.mask_loss_weight * mask, "loss_cate": self.class_loss_weight * classes}

    @torch.no_grad()
    def inference(self, predictions: SOLOv2Predictions, image_sizes: list[tuple[int, int]]) -> list[Instances]:
        """The detections of each image, best first: ``scores``, ``pred_classes`` and ``kernels``, (M, E) float32, from
        which :meth:`postprocess` makes the masks.

        Args:
            predictions: of the batch.
            image_sizes: (height, width) of each image before padding, in the frame of the network's input.
        """
        return [self._inference_single_image(predictions, i, size) for i, size in enumerate(image_sizes)]

    def _inference_single_image(
        self, predictions: SOLOv2Predictions, index: int, image_size: tuple[int, int]
    ) -> Instances:
        """The detections of one image; on return the masks of its candidates are gone."""
        candidates = decode_image(
            [x[index] for x in predictions.class_logits],
            [x[index] for x in predictions.kernels],
            predictions.mask_features[index],
            strides=self.ins_head.level_strides,
            score_thresh=self.test_score_thresh,
            mask_thresh=self.test_mask_thresh,
            max_candidates=self.test_max_candidates,
        )
        instances = Instances((int(image_size[0]), int(image_size[1])), **candidates._asdict())
        if "pred_masks" not in self.test_nms.inputs:
            instances.pred_boxes = Boxes(masks_to_boxes(candidates.pred_masks) * MASK_STRIDE)
        kept = self.suppress(instances)
        return Instances(kept.image_size, scores=kept.scores, pred_classes=kept.pred_classes, kernels=kept.kernels)

    @torch.no_grad()
    def postprocess(
        self, instances: Instances, predictions: SOLOv2Predictions, index: int, output_size: tuple[int, int]
    ) -> Instances:
        """The detections of one image at ``output_size``; see :meth:`InstanceSegmentor.postprocess`.

        Differs: detections whose mask has no pixel at this size, or none within the image, are left out, as their
        boxes would have no area. The published code keeps them.
        """
        masks = decode_full_masks(
            instances.kernels,
            predictions.mask_features[index],
            stride=MASK_STRIDE,
            image_size=instances.image_size,
            output_size=output_size,
            mask_thresh=self.test_mask_thresh,
        )
        boxes = masks_to_boxes(masks)
        kept = (boxes[:, 2] > 0).nonzero().flatten()
        if len(kept) < len(masks):
            for to, row in enumerate(kept.tolist()):
                masks[to] = masks[row]  # in place: a copy of all would double the memory
            masks = masks[: len(kept)]
        return Instances(
            output_size,
            pred_boxes=Boxes(boxes[kept]),
            scores=instances.scores[kept],
            pred_classes=instances.pred_classes[kept],
            pred_masks=masks,
        )


def _check_config(node: CfgNode, shapes: dict[str, ShapeSpec]) -> None:
    """Raise a ValueError where ``node`` (MODEL.SOLOV2) contradicts itself or the backbone's feature maps."""
    prefix = "MODEL.SOLOV2."
    for key in ("IN_FEATURES", "MASK_IN_FEATURES"):
        unknown = [f for f in node[key] if f not in shapes]
        if unknown:
            raise ValueError(f"{prefix}{key} names {unknown[0]}, but the backbone gives {', '.join(shapes)}.")
        channels = {f: shapes[f].channels for f in node[key]}
        if len(set(channels.values())) != 1:
            raise ValueError(
                f"{prefix}{key} must name feature maps of equally many channels, but they have {channels}."
            )

    num_levels = len(node.IN_FEATURES)
    for key in ("NUM_GRIDS", "STRIDES", "SCALE_RANGES"):
        if len(node[key]) != num_levels:
            raise ValueError(
                f"{prefix}{key} has {len(node[key])} entries, but {prefix}IN_FEATURES has {num_levels}: "
                "give one for each level."
            )

    strides = [shapes[f].stride for f in node.MASK_IN_FEATURES]
    if strides != [MASK_STRIDE * 2**i for i in range(len(strides))]:
        raise ValueError(
            f"{prefix}MASK_IN_FEATURES must name feature maps of strides 4, 8, 16, ... in order, not {strides}."
        )
    choices = {"NORM": ("GN", "none"), "DEFORM_IN_INSTANCE": ("none", "last", "all")}
    for key, known in choices.items():
        if node[key] not in known:
            raise ValueError(f"{prefix}{key} is {node[key]!r}: it must be one of {', '.join(known)}.")
    if node.NUM_INSTANCE_CONVS < 1:
        raise ValueError(f"{prefix}NUM_INSTANCE_CONVS is {node.NUM_INSTANCE_CONVS}: a tower needs at least 1.")
    for key in ("SCORE_THRESH_TEST", "MASK_THRESH_TEST"):
        if not 0 <= node[key] < 1:
            raise ValueError(f"{prefix}{key} is {node[key]}: it is a probability, from 0 to less than 1.")
    if node.PRE_NMS_TOPK_TEST < 1:
        raise ValueError(f"{prefix}PRE_NMS_TOPK_TEST is {node.PRE_NMS_TOPK_TEST}: at least 1 mask must enter NMS.")
    for key in ("INSTANCE_CHANNELS", "MASK_CHANNELS", "NUM_MASKS"):
        if node.NORM == "GN" and node[key] % 32:
            raise ValueError(f"{prefix}{key} is {node[key]}: with NORM GN it must be a multiple of 32, the groups.")
