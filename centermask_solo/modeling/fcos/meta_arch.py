"""FCOS alone, as a Detectron2 meta-architecture that predicts boxes."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Instances
from torch import Tensor

from ...ops.fixed_nms import FIXPOINT, GreedyNMS
from ..channels_last import configurable_model
from ..detections import Detections
from ..fixed_nms import has_fixed_shape
from ..instance_segmentor import InstanceSegmentor
from ..pasting import paste_instances
from .heads import FCOSPredictions
from .options import DecodeLimits, build_semantic_head
from .proposal_generator import FCOSProposalGenerator
from .targets import FCOSTargets


@META_ARCH_REGISTRY.register()
class FCOS(InstanceSegmentor):
    """FCOS as a one-stage detector: boxes, scores and classes, no masks.

    Inputs and outputs are those of :class:`InstanceSegmentor` without masks, in training too. Its parameters are named
    as in CenterMask, so that the FCOS part of a CenterMask checkpoint fills it. See ``docs/systems/fcos.md``.
    """

    @configurable_model
    def __init__(self, *, proposal_generator: FCOSProposalGenerator, **kwargs: Any) -> None:
        """
        Args:
            proposal_generator: All of FCOS but the backbone; decodes with the limits of this class, not with its own.
            kwargs: Arguments of :class:`InstanceSegmentor`; ``test_max_candidates`` counts per image and level.
        """
        super().__init__(**kwargs)
        self.proposal_generator = proposal_generator

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Return the constructor's arguments from a config."""
        common = super().from_config(cfg)
        generator = FCOSProposalGenerator(cfg, common["backbone"].output_shape())
        return {
            **common,
            "proposal_generator": generator,
            "num_classes": generator.num_classes,
            "semantic_head": build_semantic_head(cfg, common["backbone"].output_shape()),
            "test_nms": generator.nms,
            "test_score_thresh": generator.test_limits.score_thresh,
            "test_max_candidates": generator.test_limits.pre_nms_topk,
            "test_max_detections": generator.test_limits.post_nms_topk,
        }

    def predict(self, images: Tensor) -> FCOSPredictions:
        """Return the outputs of the networks for a normalized, padded batch (N, C, T_h, T_w)."""
        return self.predict_from(self.backbone(images))

    def predict_from(self, features: dict[str, Tensor]) -> FCOSPredictions:
        """Return the same from the features of the backbone."""
        return self.proposal_generator.predict(features)

    def label(self, predictions: FCOSPredictions, gt_instances: list[Instances]) -> FCOSTargets:
        """Return the targets of all locations; see :meth:`FCOSProposalGenerator.label`."""
        return self.proposal_generator.label(predictions, gt_instances)

    def losses(self, predictions: FCOSPredictions, targets: FCOSTargets) -> dict[str, Tensor]:
        """Return ``loss_fcos_cls``, ``loss_fcos_loc`` and ``loss_fcos_ctr``."""
        return self.proposal_generator.losses(predictions, targets)

    def inference(
        self, predictions: FCOSPredictions, image_sizes: list[tuple[int, int]], *, min_score: float = 0.0
    ) -> list[Instances]:
        """Return the detections of each image; see :meth:`FCOSProposalGenerator.inference`."""
        return self.proposal_generator.inference(predictions, image_sizes, self._limits(), min_score=min_score)

    def detect(
        self, predictions: FCOSPredictions, image_sizes: Tensor, max_detections: int, greedy: GreedyNMS = FIXPOINT
    ) -> Detections:
        """Return what :meth:`inference` does in fixed shapes; see :meth:`FCOSProposalGenerator.detect`."""
        del image_sizes
        return self.proposal_generator.detect(predictions, max_detections, self._limits(), greedy)

    def _limits(self) -> DecodeLimits:
        return DecodeLimits(self.test_score_thresh, self.test_max_candidates, self.test_max_detections)

    @property
    def has_fixed_shapes(self) -> bool:
        """Whether :meth:`detect` finds what :meth:`inference` does: not without a limit, nor with every rule of NMS."""
        return self.test_max_detections > 0 and has_fixed_shape(self.test_nms)

    def paste(
        self, instances: Instances, predictions: FCOSPredictions, index: int, output_size: tuple[int, int]
    ) -> tuple[Instances, Tensor]:
        """Return the detections at ``output_size``, with clipped boxes, and which of these have an area."""
        del predictions, index
        return paste_instances(instances, output_size)
