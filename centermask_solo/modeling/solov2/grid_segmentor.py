"""What the systems whose cells each predict a mask share: their options, the NMS of candidates, and the results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances
from torch import Tensor

from ...ops.masks import masks_to_boxes
from ..instance_segmentor import InstanceSegmentor
from ..mask_frame import MaskFrame
from ..option_checks import check_length, check_probability
from ..slots import class_threshold
from .grid_head import GridHead
from .ground_truth import MASK_STRIDE

NMS_INPUTS = ("pred_masks", "pred_boxes")  # what the rules of NMS can compare


class GridSegmentor(InstanceSegmentor):
    """A one-stage instance segmentor in which an object belongs to the cells around its center.

    A subclass supplies the verbs of :class:`InstanceSegmentor`, with the help of :meth:`keep` and :meth:`finish`, and
    its head as ``ins_head``.
    """

    ins_head: GridHead

    def __init__(
        self,
        *,
        instance_in_features: Sequence[str],
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
            instance_in_features: Names of the feature maps that grids are laid over, one per level.
            scale_ranges: Smallest and largest sqrt(box area) on which each level is trained, input pixels.
            sigma: Side of the region whose cells an instance claims, relative to its box.
            focal_alpha: Weight of positive entries in the class loss.
            focal_gamma: Exponent of the class loss.
            class_loss_weight: Weight of ``loss_cate``.
            mask_loss_weight: Weight of ``loss_ins``.
            test_mask_thresh: Minimum probability of a mask's pixels, exclusive.
            kwargs: Arguments of :class:`InstanceSegmentor`.

        Raises:
            ConfigError: An option is out of range.
        """
        super().__init__(**kwargs)
        key = self.config_key
        check_length(f"{key}.SCALE_RANGES", scale_ranges, f"{key}.IN_FEATURES", len(instance_in_features))
        check_probability(f"{key}.MASK_THRESH_TEST", test_mask_thresh)
        self.instance_in_features = list(instance_in_features)
        self.scale_ranges = [(low, high) for low, high in scale_ranges]
        self.sigma = sigma
        self.focal_alpha, self.focal_gamma = focal_alpha, focal_gamma
        self.class_loss_weight, self.mask_loss_weight = class_loss_weight, mask_loss_weight
        self.test_mask_thresh = test_mask_thresh

    @staticmethod
    def grid_options(node: CfgNode) -> dict[str, Any]:
        """Return the constructor arguments from the options of a system, all but its networks and NMS."""
        return {
            "instance_in_features": node.IN_FEATURES,
            "num_classes": node.NUM_CLASSES,
            "scale_ranges": node.SCALE_RANGES,
            "sigma": node.SIGMA,
            "focal_alpha": node.LOSS.FOCAL_ALPHA,
            "focal_gamma": node.LOSS.FOCAL_GAMMA,
            "class_loss_weight": node.LOSS.CLASS_WEIGHT,
            "mask_loss_weight": node.LOSS.MASK_WEIGHT,
            "test_score_thresh": node.SCORE_THRESH_TEST,
            "test_mask_thresh": node.MASK_THRESH_TEST,
            "test_max_candidates": node.PRE_NMS_TOPK_TEST,
        }

    def decode_options(self, min_score: float = 0.0) -> dict[str, Any]:
        """Return the arguments of decoding that are the same for all images, for detections from a score on."""
        return {
            "strides": self.ins_head.level_strides,
            "score_thresh": class_threshold(self.test_score_thresh, min_score),
            "mask_thresh": self.test_mask_thresh,
            "max_candidates": self.test_max_candidates,
        }

    @property
    def mask_frame(self) -> MaskFrame:
        """What the masks of ``mask_probabilities`` mean: they are at stride 4, and boxes are those around them."""
        return MaskFrame("input", stride=MASK_STRIDE, threshold=self.test_mask_thresh, boxes=True)

    def keep(self, candidates: dict[str, Tensor], image_size: tuple[int, int]) -> Instances:
        """Return the detections of one image that NMS keeps, without their masks.

        Args:
            candidates: Fields of the candidates, best first: ``scores``, ``pred_classes``, ``pred_masks`` at stride 4,
                and what :meth:`postprocess` computes the full-size masks from.
            image_size: (height, width) before padding.
        """
        instances = Instances((int(image_size[0]), int(image_size[1])), **candidates)
        if "pred_masks" not in self.test_nms.inputs:
            instances.pred_boxes = Boxes(masks_to_boxes(candidates["pred_masks"]) * MASK_STRIDE)
        kept = self.suppress(instances)
        return Instances(kept.image_size, **{k: kept.get(k) for k in candidates if k != "pred_masks"})

    @staticmethod
    def finish(instances: Instances, masks: Tensor) -> tuple[Instances, Tensor]:
        """Return detections with ``masks`` (M, H, W) bool and the boxes around them, and which have pixels, (M,) bool.

        Differs: detections whose mask has no pixel at this size or within the image are dropped, because their boxes
            would be empty. The published code keeps them.
        """
        boxes = masks_to_boxes(masks)
        found = Instances(
            (masks.shape[1], masks.shape[2]),
            pred_boxes=Boxes(boxes),
            scores=instances.scores,
            pred_classes=instances.pred_classes,
            pred_masks=masks,
        )
        return found, boxes[:, 2] > 0

    def weighted(self, mask_loss: Tensor, class_loss: Tensor) -> dict[str, Tensor]:
        """Return ``loss_ins`` and ``loss_cate``, the authors' names, from the two means."""
        return {"loss_ins": self.mask_loss_weight * mask_loss, "loss_cate": self.class_loss_weight * class_loss}
