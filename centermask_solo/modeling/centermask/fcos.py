"""FCOS as a Detectron2 proposal generator: in inference its "proposals" are the final boxes."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.proposal_generator import PROPOSAL_GENERATOR_REGISTRY
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn

from ..instance_nms import InstanceNMS, build_instance_nms
from .decode import decode_batch
from .heads import FCOSHead, FCOSPredictions
from .losses import BOX_LOSSES, fcos_losses
from .targets import FCOSTargets, build_fcos_targets, regression_ranges


class DecodeOptions(NamedTuple):
    """How many boxes come out, in training (proposals) or in inference (detections)."""

    score_thresh: float  # class probability, strictly above
    pre_nms_topk: int  # candidates of an image and level
    post_nms_topk: int  # boxes of an image


@PROPOSAL_GENERATOR_REGISTRY.register()
class FCOS(nn.Module):
    """FCOS (arXiv 1904.01355): every location of every level predicts classes, a box and how central it is in it.

    In training it returns ``proposal_boxes`` and ``objectness_logits``, as any proposal generator; in inference the
    detections.
    """

    @configurable
    def __init__(
        self,
        *,
        fcos_head: FCOSHead,
        in_features: list[str],
        strides: list[int],
        nms: InstanceNMS,
        num_classes: int,
        sizes_of_interest: list[int],
        center_sampling_radius: float | None = 1.5,
        focal_alpha: float = 0.25,
        focal_gamma: float = 2.0,
        box_loss_type: str = "giou",
        train_decoding: DecodeOptions = DecodeOptions(0.05, 1000, 100),  # noqa: B008
        test_decoding: DecodeOptions = DecodeOptions(0.05, 1000, 50),  # noqa: B008
        thresh_with_centerness: bool = False,
    ) -> None:
        """
        Args:
            fcos_head: the networks.
            in_features: names of the L levels, finest first.
            strides: of the levels, input pixels.
            nms: applied to the boxes of each image, in training too.
            num_classes: K.
            sizes_of_interest: the L - 1 limits between the levels' regression ranges, input pixels.
            center_sampling_radius: in strides; None makes every location within a box a positive.
            focal_alpha: weight of the positives.
            focal_gamma: exponent of the focal loss.
            box_loss_type: "giou", "iou" or "linear_iou".
            train_decoding: of the proposals.
            test_decoding: of the detections.
            thresh_with_centerness: compare class probability x centerness with the threshold.
        """
        super().__init__()
        if box_loss_type not in BOX_LOSSES:
            raise ValueError(f"MODEL.FCOS.LOSS.BOX_TYPE must be one of {', '.join(BOX_LOSSES)}, not {box_loss_type!r}.")
        if not len(in_features) == len(strides) == len(sizes_of_interest) + 1:
            raise ValueError(
                "MODEL.FCOS needs one stride a level and one size of interest between two levels, but "
                f"IN_FEATURES has {len(in_features)} entries, with {len(strides)} strides, and "
                f"SIZES_OF_INTEREST {len(sizes_of_interest)}."
            )
        self.fcos_head = fcos_head
        self.in_features, self.strides = in_features, strides
        self.ranges = regression_ranges(sizes_of_interest)
        self.num_classes = num_classes
        self.center_sampling_radius = center_sampling_radius
        self.focal_alpha, self.focal_gamma, self.box_loss_type = focal_alpha, focal_gamma, box_loss_type
        self.nms = nms
        self.train_decoding, self.test_decoding = train_decoding, test_decoding
        self.thresh_with_centerness = thresh_with_centerness

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """The constructor's arguments, from a config and the shapes of the backbone's features."""
        node = cfg.MODEL.FCOS
        num_classes = _num_classes(cfg)
        return {
            "fcos_head": FCOSHead(
                in_channels=_common_channels(node, input_shape),
                num_levels=len(node.IN_FEATURES),
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
            "strides": [input_shape[f].stride for f in node.IN_FEATURES],
            "nms": build_instance_nms(node.NMS, ["pred_boxes"]),
            "num_classes": num_classes,
            "sizes_of_interest": node.SIZES_OF_INTEREST,
            "center_sampling_radius": node.POS_RADIUS if node.CENTER_SAMPLE else None,
            "focal_alpha": node.LOSS.FOCAL_ALPHA,
            "focal_gamma": node.LOSS.FOCAL_GAMMA,
            "box_loss_type": node.LOSS.BOX_TYPE,
            "train_decoding": DecodeOptions(node.SCORE_THRESH_TRAIN, node.PRE_NMS_TOPK_TRAIN, node.POST_NMS_TOPK_TRAIN),
            "test_decoding": DecodeOptions(node.SCORE_THRESH_TEST, node.PRE_NMS_TOPK_TEST, node.POST_NMS_TOPK_TEST),
            "thresh_with_centerness": node.THRESH_WITH_CENTERNESS,
        }

    def forward(
        self, images: ImageList, features: dict[str, Tensor], gt_instances: list[Instances] | None = None
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """The boxes of each image, and in training the losses.

        Args:
            images: of which only the sizes before padding matter here.
            features: of the backbone.
            gt_instances: in training, for each image ``gt_boxes`` and ``gt_classes``.

        Returns:
            In training ``proposal_boxes`` and ``objectness_logits`` without gradient, and three losses. In inference
            what :meth:`inference` returns, and no losses.
        """
        predictions = self.predict([features[f] for f in self.in_features])
        results = self.inference(predictions, images.image_sizes)
        if not self.training:
            return results, {}
        if gt_instances is None:
            raise ValueError('Training needs the ground truth of each image: its input has no "instances".')
        losses = self.losses(predictions, self.label(predictions, gt_instances))
        return [_as_proposals(x) for x in results], losses

    def predict(self, features: list[Tensor]) -> FCOSPredictions:
        """What the networks say about ``features``: for each level (N, C, Hi, Wi)."""
        return self.fcos_head(features)

    def label(self, predictions: FCOSPredictions, gt_instances: list[Instances]) -> FCOSTargets:
        """The targets of all locations, from ``gt_boxes`` and ``gt_classes`` of each image."""
        return build_fcos_targets(
            [x.gt_boxes.tensor for x in gt_instances],
            [x.gt_classes for x in gt_instances],
            [(x.shape[2], x.shape[3]) for x in predictions.class_logits],
            strides=self.strides,
            ranges=self.ranges,
            radius=self.center_sampling_radius,
            num_classes=self.num_classes,
        )

    def losses(self, predictions: FCOSPredictions, targets: FCOSTargets) -> dict[str, Tensor]:
        """``loss_fcos_cls``, ``loss_fcos_loc`` and ``loss_fcos_ctr``: zero but connected where nothing is positive."""
        return fcos_losses(
            *predictions,
            targets,
            focal_alpha=self.focal_alpha,
            focal_gamma=self.focal_gamma,
            box_loss_type=self.box_loss_type,
        )

    @torch.no_grad()
    def inference(self, predictions: FCOSPredictions, image_sizes: list[tuple[int, int]]) -> list[Instances]:
        """The boxes of each image after NMS, best first, with the numbers of training or of inference, as the mode is.

        Args:
            predictions: of the batch.
            image_sizes: (height, width) of each image before padding, in the frame of the network's input.

        Returns:
            For each image ``pred_boxes`` (not clipped), ``scores``, ``pred_classes`` and ``locations`` (M, 2), the
            points (x, y) that predicted them.
        """
        options = self.train_decoding if self.training else self.test_decoding
        candidates = decode_batch(
            *predictions,
            strides=self.strides,
            score_thresh=options.score_thresh,
            thresh_with_centerness=self.thresh_with_centerness,
            pre_nms_topk=options.pre_nms_topk,
        )
        results = []
        for found, image_size in zip(candidates, image_sizes, strict=True):
            instances = Instances(
                image_size,
                scores=found.scores,
                pred_classes=found.pred_classes,
                pred_boxes=Boxes(found.boxes),
                locations=found.locations,
            )
            results.append(self.nms(instances)[: options.post_nms_topk])
        return results


def _as_proposals(instances: Instances) -> Instances:
    """The same boxes as Detectron2's RoI heads expect them in training."""
    proposals = Instances(instances.image_size)
    proposals.proposal_boxes = instances.pred_boxes
    proposals.objectness_logits = torch.logit(instances.scores, eps=1e-6)
    return proposals


def _num_classes(cfg: CfgNode) -> int:
    """K, after checking that the two options that may say it agree."""
    own, of_heads = cfg.MODEL.FCOS.NUM_CLASSES, cfg.MODEL.ROI_HEADS.NUM_CLASSES
    if own not in (0, of_heads):
        raise ValueError(
            f"MODEL.FCOS.NUM_CLASSES is {own} but MODEL.ROI_HEADS.NUM_CLASSES is {of_heads}: "
            "set the former to 0, which means the latter."
        )
    return of_heads


def _common_channels(node: CfgNode, input_shape: dict[str, ShapeSpec]) -> int:
    """The number of channels of the levels, after checking the levels against the backbone."""
    missing = [f for f in node.IN_FEATURES if f not in input_shape]
    if missing:
        raise ValueError(
            f"MODEL.FCOS.IN_FEATURES names {', '.join(missing)}, but the backbone gives {', '.join(input_shape)}."
        )
    channels = {input_shape[f].channels for f in node.IN_FEATURES}
    if len(channels) != 1:
        raise ValueError(f"The levels of MODEL.FCOS.IN_FEATURES must have the same channels, not {sorted(channels)}.")
    return channels.pop()
