"""FCOS as a Detectron2 proposal generator whose "proposals" at inference are the final boxes."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.proposal_generator import PROPOSAL_GENERATOR_REGISTRY
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn

from ...ops.fixed_nms import FIXPOINT, GreedyNMS
from ...ops.host_reads import avoids_host_reads
from ...utils.errors import ConfigError, DataError
from ..detections import Detections
from ..fixed_nms import fixed_nms, has_fixed_shape
from ..ground_truth import check_classes
from ..instance_nms import InstanceNMS, build_instance_nms
from ..option_checks import check_choice, select_shapes
from ..parts_of_batch import per_part, total
from ..slots import read_detections
from .decode import decode_batch
from .fixed_decode import decode_fixed
from .heads import FCOSHead, FCOSPredictions
from .losses import BOX_LOSSES, average_over_processes, fcos_losses
from .options import DecodeLimits, check_semantic_loss
from .targets import FCOSTargets, build_targets, regression_ranges

_MIN_CENTERNESS_SUM = 1e-6


class FCOSProposalGenerator(nn.Module):
    """FCOS (arXiv 1904.01355): every location of every level predicts classes, a box and a centerness.

    In training :meth:`forward` returns ``proposal_boxes`` and ``objectness_logits``, like any proposal generator; at
    inference it returns the detections. Only :meth:`forward` depends on the mode.
    """

    @configurable
    def __init__(
        self,
        *,
        fcos_head: nn.Module,
        in_features: list[str],
        strides: list[int],
        nms: InstanceNMS,
        num_classes: int,
        sizes_of_interest: list[int],
        center_sampling_radius: float | None = 1.5,
        focal_alpha: float = 0.25,
        focal_gamma: float = 2.0,
        box_loss_type: str = "giou",
        train_limits: DecodeLimits = DecodeLimits(0.05, 1000, 100),  # noqa: B008
        test_limits: DecodeLimits = DecodeLimits(0.05, 1000, 50),  # noqa: B008
        thresh_with_centerness: bool = False,
        num_classes_key: str = "MODEL.FCOS.NUM_CLASSES",
    ) -> None:
        """
        Args:
            fcos_head: Returns ``FCOSPredictions`` for the features of L levels.
            in_features: Names of the L levels, finest first.
            strides: Stride of each level in input pixels.
            nms: Applied to the boxes of each image, in training too.
            num_classes: K.
            sizes_of_interest: The L - 1 limits between the regression ranges of the levels, in input pixels.
            center_sampling_radius: In strides; None makes every location in a box a positive.
            focal_alpha: Weight of positives in the focal loss.
            focal_gamma: Exponent of the focal loss.
            box_loss_type: "giou", "iou" or "linear_iou".
            train_limits: Limits of the proposals in training.
            test_limits: Limits of the detections.
            thresh_with_centerness: Compare class probability x centerness with the score threshold.
            num_classes_key: The option that sets ``num_classes``, named in error messages.

        Raises:
            ConfigError: An option is unknown, or the numbers of entries do not match.
        """
        super().__init__()
        check_choice("MODEL.FCOS.LOSS.BOX_TYPE", box_loss_type, BOX_LOSSES)
        if not len(in_features) == len(strides) == len(sizes_of_interest) + 1:
            raise ConfigError(
                f"MODEL.FCOS.SIZES_OF_INTEREST has {len(sizes_of_interest)} entries, but the {len(in_features)} levels "
                f"of IN_FEATURES need {len(in_features) - 1}: give one limit between each two levels"
            )
        self.fcos_head = fcos_head
        self.in_features, self.strides = in_features, strides
        self.ranges = regression_ranges(sizes_of_interest)
        self.num_classes, self.num_classes_key = num_classes, num_classes_key
        self.center_sampling_radius = center_sampling_radius
        self.focal_alpha, self.focal_gamma, self.box_loss_type = focal_alpha, focal_gamma, box_loss_type
        self.nms = nms
        self.train_limits, self.test_limits = train_limits, test_limits
        self.thresh_with_centerness = thresh_with_centerness

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Return the constructor's arguments from a config and the shapes of the backbone's features.

        Raises:
            ConfigError: Options contradict the backbone.
        """
        node = cfg.MODEL.FCOS
        check_semantic_loss(cfg)
        levels = select_shapes(input_shape, node.IN_FEATURES, "MODEL.FCOS.IN_FEATURES")
        num_classes = node.NUM_CLASSES or cfg.MODEL.ROI_HEADS.NUM_CLASSES
        return {
            "fcos_head": FCOSHead(
                in_channels=levels[0].channels,
                num_levels=len(levels),
                num_classes=num_classes,
                num_class_convs=node.NUM_CLASS_CONVS,
                num_box_convs=node.NUM_BOX_CONVS,
                num_shared_convs=node.NUM_SHARED_CONVS,
                norm=node.NORM,
                use_scale=node.USE_SCALE,
                deformable=node.USE_DEFORMABLE,
                prior_prob=node.PRIOR_PROB,
            ),
            "in_features": node.IN_FEATURES,
            "strides": [x.stride for x in levels],
            "nms": build_instance_nms(node.NMS, ["pred_boxes"]),
            "num_classes": num_classes,
            "sizes_of_interest": node.SIZES_OF_INTEREST,
            "center_sampling_radius": node.POS_RADIUS if node.CENTER_SAMPLE else None,
            "focal_alpha": node.LOSS.FOCAL_ALPHA,
            "focal_gamma": node.LOSS.FOCAL_GAMMA,
            "box_loss_type": node.LOSS.BOX_TYPE,
            "train_limits": DecodeLimits(node.SCORE_THRESH_TRAIN, node.PRE_NMS_TOPK_TRAIN, node.POST_NMS_TOPK_TRAIN),
            "test_limits": DecodeLimits(node.SCORE_THRESH_TEST, node.PRE_NMS_TOPK_TEST, node.POST_NMS_TOPK_TEST),
            "thresh_with_centerness": node.THRESH_WITH_CENTERNESS,
            "num_classes_key": f"MODEL.{'FCOS' if node.NUM_CLASSES else 'ROI_HEADS'}.NUM_CLASSES",
        }

    def forward(
        self, images: ImageList, features: dict[str, Tensor], gt_instances: list[Instances] | None = None
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Return the boxes of each image and, in training, the losses.

        Args:
            images: Only their sizes before padding are used.
            features: Features of the backbone by name.
            gt_instances: In training, ``gt_boxes`` and ``gt_classes`` of each image.

        Returns:
            In training the result of :meth:`propose` and three losses; at inference the result of :meth:`inference` and
            no losses.

        Raises:
            DataError: Ground truth is missing in training.
        """
        predictions = self.predict(features)
        if not self.training:
            return self.inference(predictions, images.image_sizes), {}
        if gt_instances is None:
            raise DataError('training needs ground truth for every image, but the input has no "instances"')
        losses = self.losses(predictions, self.label(predictions, gt_instances))
        return self.propose(predictions, images.image_sizes), losses

    def predict(self, features: dict[str, Tensor]) -> FCOSPredictions:
        """Return the outputs of the head for the backbone's ``features``, independent of the mode."""
        return self.fcos_head([features[f] for f in self.in_features])

    @torch.no_grad()
    def label(self, predictions: FCOSPredictions, gt_instances: list[Instances]) -> FCOSTargets:
        """Return the targets of all locations.

        Args:
            predictions: Result of :meth:`predict`; only its sizes and device are used.
            gt_instances: ``gt_boxes`` and ``gt_classes`` of each image, in the frame of the network's input, on one
                device: no GPU waits for the check of classes that the loader left on the host.

        Raises:
            DataError: A class is outside 0..K-1.
        """
        device = predictions.class_logits[0].device
        check_classes(torch.cat([x.gt_classes for x in gt_instances]), self.num_classes, self.num_classes_key)
        return build_targets(
            [x.gt_boxes.tensor.to(device, non_blocking=True) for x in gt_instances],
            [x.gt_classes.to(device, non_blocking=True) for x in gt_instances],
            [(x.shape[2], x.shape[3]) for x in predictions.class_logits],
            strides=self.strides,
            ranges=self.ranges,
            radius=self.center_sampling_radius,
            num_classes=self.num_classes,
        )

    def losses(self, predictions: FCOSPredictions, targets: FCOSTargets) -> dict[str, Tensor]:
        """Return ``loss_fcos_cls``, ``loss_fcos_loc`` and ``loss_fcos_ctr``, normalized over all processes."""
        positive = targets.classes < self.num_classes
        local = torch.stack([positive.sum().float(), targets.centerness.sum()])
        num_positive, centerness_sum = average_over_processes(total("locations", local)).unbind()
        return fcos_losses(
            *predictions,
            targets,
            num_positive=per_part(num_positive.clamp(min=1)),
            centerness_sum=per_part(centerness_sum.clamp(min=_MIN_CENTERNESS_SUM)),
            focal_alpha=self.focal_alpha,
            focal_gamma=self.focal_gamma,
            box_loss_type=self.box_loss_type,
        )

    @torch.no_grad()
    def inference(
        self,
        predictions: FCOSPredictions,
        image_sizes: list[tuple[int, int]],
        limits: DecodeLimits | None = None,
        *,
        min_score: float = 0.0,
    ) -> list[Instances]:
        """Return the boxes of each image after NMS, best first.

        Args:
            predictions: Result of :meth:`predict`.
            image_sizes: (height, width) of each image before padding, in the frame of the network's input.
            limits: How many boxes to return; ``test_limits`` by default.
            min_score: Boxes of lower scores are left out.

        Returns:
            For each image ``pred_boxes`` (not clipped), ``scores``, ``pred_classes`` and ``locations`` (M, 2), the
            points (x, y) that predicted them.
        """
        score_thresh, pre_nms_topk, post_nms_topk = limits or self.test_limits
        candidates = decode_batch(
            *predictions,
            strides=self.strides,
            score_thresh=score_thresh,
            thresh_with_centerness=self.thresh_with_centerness,
            pre_nms_topk=pre_nms_topk,
        )
        results = []
        for found, (height, width) in zip(candidates, image_sizes, strict=True):
            instances = Instances((int(height), int(width)), pred_boxes=Boxes(found.boxes), scores=found.scores)
            instances.pred_classes, instances.locations = found.pred_classes, found.locations
            kept = self.nms(instances[instances.scores >= min_score] if min_score > 0 else instances)
            results.append(kept if post_nms_topk < 0 else kept[:post_nms_topk])
        return results

    @torch.no_grad()
    def detect(
        self,
        predictions: FCOSPredictions,
        max_detections: int,
        limits: DecodeLimits | None = None,
        greedy: GreedyNMS = FIXPOINT,
    ) -> Detections:
        """Return what :meth:`inference` does in fixed shapes, with ``locations`` (N, K, 2) among the fields.

        Args:
            predictions, limits: As in :meth:`inference`, but ``post_nms_topk``.
            max_detections, greedy: Number K of slots per image, and how greedy NMS is computed.

        Raises:
            ConfigError: The rule of NMS has no fixed shape.
        """
        score_thresh, pre_nms_topk, _ = limits or self.test_limits
        found = decode_fixed(
            *predictions,
            strides=self.strides,
            score_thresh=score_thresh,
            thresh_with_centerness=self.thresh_with_centerness,
            pre_nms_topk=pre_nms_topk,
        )
        kept = fixed_nms(
            self.nms, found.boxes, found.quality.sqrt(), found.classes, max_detections, greedy, ranking=found.quality
        )
        return found.take(kept)

    def propose(self, predictions: FCOSPredictions, image_sizes: list[tuple[int, int]]) -> list[Instances]:
        """Return proposals for the training of RoI heads: ``proposal_boxes`` and ``objectness_logits``, no gradient.

        The host of a GPU reads their numbers, once for a batch, unless limits or NMS have no fixed shape.
        """
        limits, device = self.train_limits, predictions.class_logits[0].device
        unlimited = partial(self.inference, predictions, image_sizes, limits)
        if limits.post_nms_topk > 0 and has_fixed_shape(self.nms) and avoids_host_reads(device):
            found = read_detections(self.detect(predictions, limits.post_nms_topk, limits), image_sizes, unlimited)
        else:
            found = unlimited()
        proposals = []
        for x in found:
            logits = torch.logit(x.scores, eps=1e-6)
            proposals.append(Instances(x.image_size, proposal_boxes=x.pred_boxes, objectness_logits=logits))
        return proposals


@PROPOSAL_GENERATOR_REGISTRY.register()
def FCOS(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> FCOSProposalGenerator:
    """Build the proposal generator under the name of published configs, ``MODEL.PROPOSAL_GENERATOR.NAME`` "FCOS"."""
    return FCOSProposalGenerator(cfg, input_shape)
