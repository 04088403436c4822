"""CenterMask as a Detectron2 meta-architecture."""

from __future__ import annotations

from typing import Any, NamedTuple, overload

import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN, detector_postprocess
from detectron2.structures import ImageList, Instances
from detectron2.utils.events import get_event_storage
from torch import Tensor

from ...ops.fixed_nms import FIXPOINT, GreedyNMS
from ...ops.host_reads import avoids_host_reads
from ...utils.errors import ConfigError
from ..batches import run_by_padded_size
from ..channels_last import configurable_model
from ..detections import Detections
from ..fcos import FCOSPredictions, FCOSProposalGenerator, FCOSTargets, build_semantic_head
from ..fixed_nms import has_fixed_shape
from ..ground_truth import check_ground_truth
from ..image_checks import check_images
from ..mask_frame import MaskFrame
from ..option_scope import check_options_are_read
from ..pasting import paste_instances, paste_into_whole_boxes
from ..preprocessing import normalized_batch
from ..semantic import SemanticAuxiliary
from ..slots import Output, Size, detect_in_slots, lowest_score, paste_all
from .logs import log_mask_accuracy
from .roi_heads import CenterROIHeads, RoITargets


class CenterMaskPredictions(NamedTuple):
    """The outputs of CenterMask's networks that depend on the images alone."""

    fcos: FCOSPredictions
    features: dict[str, Tensor]  # of the backbone by name, (N, C, Hi, Wi) each; the RoI heads pool from them


class CenterMaskTargets(NamedTuple):
    """The training targets of a batch."""

    fcos: FCOSTargets
    roi: RoITargets


@META_ARCH_REGISTRY.register()
class CenterMask(GeneralizedRCNN):
    """FCOS, followed by masks and their predicted IoU.

    It has the verbs of the one-stage systems, which :meth:`forward` is made of: :meth:`predict`, :meth:`label`,
    :meth:`losses`, :meth:`inference`. The second stage depends on boxes, so its networks are not part of
    :meth:`predict`: :meth:`losses` and :meth:`inference` run them, through ``CenterROIHeads.predict``.

    It is also a ``GeneralizedRCNN``, whose :meth:`inference` takes input dicts, which Detectron2's test-time
    augmentation and export call. The method accepts both: ``(predictions, image_sizes)``, which is the verb, and
    Detectron2's ``(batched_inputs, detected_instances, do_postprocess)``, which calls the verb. The type of the first
    argument decides.

    The same parts work in a plain ``GeneralizedRCNN``, which the authors' files name, and in ``PanopticFPN``.
    """

    @configurable_model
    def __init__(
        self, *, paste_unclipped: bool = False, semantic_head: SemanticAuxiliary | None = None, **kwargs: Any
    ) -> None:
        """
        Args:
            paste_unclipped: Paste the mask of a box that extends beyond the image into the whole box, the frame in
                which it was predicted. Detectron2, and the published figures, squeeze it into the visible part.
            semantic_head: Auxiliary loss on the backbone's features, or None.
            kwargs: Arguments of ``GeneralizedRCNN``.

        Raises:
            ConfigError: The proposal generator is not FCOS, or the RoI heads are not ``CenterROIHeads``.
        """
        super().__init__(**kwargs)
        self.paste_unclipped = paste_unclipped
        self.semantic_head = semantic_head
        self.expects_0_to_255 = max(kwargs["pixel_mean"]) > 1
        if not isinstance(self.proposal_generator, FCOSProposalGenerator) or not isinstance(
            self.roi_heads, CenterROIHeads
        ):
            raise ConfigError(
                'MODEL.META_ARCHITECTURE CenterMask needs MODEL.PROPOSAL_GENERATOR.NAME "FCOS" and '
                'MODEL.ROI_HEADS.NAME "CenterROIHeads": set MODEL.META_ARCHITECTURE "GeneralizedRCNN" for other parts'
            )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Return the constructor's arguments from a config.

        Raises:
            ConfigError: An option of another kind of detector is set.
        """
        check_options_are_read(cfg)
        common = super().from_config(cfg)
        return {
            **common,
            "paste_unclipped": cfg.MODEL.CENTERMASK.PASTE_UNCLIPPED,
            "semantic_head": build_semantic_head(cfg, common["backbone"].output_shape()),
        }

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor] | list[dict[str, Instances]]:
        """Return the losses in training and the detections at inference; see ``GeneralizedRCNN.forward``.

        Raises:
            DataError: Ground truth is missing in training.
        """
        if not self.training:
            return self.inference(batched_inputs)
        check_ground_truth(batched_inputs)
        images = self.preprocess_image(batched_inputs)
        predictions = self.predict(images.tensor)
        if self.vis_period > 0 and get_event_storage().iter % self.vis_period == 0:
            proposals = self.proposal_generator.propose(predictions.fcos, images.image_sizes)
            self.visualize_training(batched_inputs, proposals)
        gt_instances = [x["instances"] for x in batched_inputs]
        losses = self.losses(predictions, self.label(predictions, gt_instances))
        if self.semantic_head is not None:
            losses.update(self.semantic_head.losses(predictions.features, gt_instances))
        return losses

    def preprocess_image(self, batched_inputs: list[dict[str, Any]]) -> ImageList:
        """Return the normalized, padded images as one batch: see :meth:`InstanceSegmentor.preprocess_image`."""
        check_images(batched_inputs, self)
        return normalized_batch(self, batched_inputs)

    def predict(self, images: Tensor) -> CenterMaskPredictions:
        """Return FCOS's outputs and the backbone's features for a normalized, padded batch (N, C, T_h, T_w)."""
        features = self.backbone(images)
        return CenterMaskPredictions(self.proposal_generator.predict(features), features)

    @torch.no_grad()
    def label(self, predictions: CenterMaskPredictions, gt_instances: list[Instances]) -> CenterMaskTargets:
        """Return the targets of FCOS, the RoIs sampled from its proposals, and their targets.

        Args:
            predictions: Result of :meth:`predict`.
            gt_instances: ``gt_boxes``, ``gt_classes`` and, with masks, ``gt_masks`` of each image, in the frame of the
                network's input, on any device. A GPU is given only what it needs of them.

        Raises:
            DataError: A class is outside 0..K-1, or masks are missing.
        """
        fcos_targets = self.proposal_generator.label(predictions.fcos, gt_instances)
        proposals = self.proposal_generator.propose(predictions.fcos, [x.image_size for x in gt_instances])
        return CenterMaskTargets(fcos_targets, self.roi_heads.label(proposals, gt_instances))

    def losses(self, predictions: CenterMaskPredictions, targets: CenterMaskTargets) -> dict[str, Tensor]:
        """Return the weighted losses of both stages; runs the RoI heads on the RoIs of ``targets``."""
        outputs = self.roi_heads.predict_training(predictions.features, targets.roi)
        log_mask_accuracy(outputs.masks, targets.roi.masks)
        return {
            **self.proposal_generator.losses(predictions.fcos, targets.fcos),
            **self.roi_heads.weigh(self.roi_heads.losses(outputs, targets.roi)),
        }

    @overload
    def inference(
        self, predictions: CenterMaskPredictions, image_sizes: list[tuple[int, int]], /, *, min_score: float = 0.0
    ) -> list[Instances]: ...

    @overload
    def inference(
        self,
        batched_inputs: list[dict[str, Any]],
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> Any: ...

    def inference(
        self,
        batched_inputs: Any,
        detected_instances: Any = None,
        do_postprocess: bool = True,
        *,
        min_score: float = 0.0,
    ) -> Any:
        """Return the detections of each image, from predictions or from input dicts.

        Args:
            batched_inputs: Result of :meth:`predict`; or the input dicts of ``GeneralizedRCNN``.
            detected_instances: With predictions, (height, width) of each image before padding; with input dicts, known
                ``pred_boxes`` and ``pred_classes`` to complete instead of detecting, or None.
            do_postprocess: With input dicts, whether to return results of the output size.
            min_score: With predictions, the score below which detections are left out, before masks are predicted.

        Returns:
            From predictions, and without ``do_postprocess``: Instances in the frame of the network's input, best box
            score first, with ``pred_boxes`` (not clipped), ``scores``, ``pred_classes``, ``locations``, ``pred_masks``
            (M, 1, 28, 28), probabilities, and ``mask_scores`` with a mask IoU head. Otherwise
            ``{"instances": Instances}`` with the result of :meth:`postprocess`.
        """
        if isinstance(batched_inputs, CenterMaskPredictions):
            return self._infer(batched_inputs, detected_instances, min_score)

        def infer(indices: list[int]) -> list[Instances]:
            inputs, predictions = [batched_inputs[i] for i in indices], None
            if detected_instances is None:
                images = self.preprocess_image(inputs)
                predictions = self.predict(images.tensor)
            else:
                check_images(inputs, self)  # before their sizes are read
                given = [detected_instances[i] for i in indices]
                results = super(CenterMask, self).inference(inputs, given, do_postprocess=False)
            outputs = [Output.of(x) if do_postprocess else None for x in inputs]
            if predictions is not None:
                if self.has_fixed_shapes and avoids_host_reads(self.device):
                    return detect_in_slots(self, predictions, images.image_sizes, outputs, self.device)
                results = self._infer(predictions, images.image_sizes, lowest_score(outputs))
            return [paste_all(self, x, predictions, i, outputs[i]) for i, x in enumerate(results)]

        results = run_by_padded_size(infer, batched_inputs, self)
        return [{"instances": x} for x in results] if do_postprocess else results

    @property
    def mask_frame(self) -> MaskFrame:
        """What the masks of :meth:`mask_probabilities` mean: each spans its box."""
        return MaskFrame("box", whole_boxes=self.paste_unclipped) if self.roi_heads.mask_on else MaskFrame()

    @torch.no_grad()
    def _infer(self, predictions: CenterMaskPredictions, image_sizes: list[Size], min_score: float) -> list[Instances]:
        proposals = self.proposal_generator.inference(predictions.fcos, image_sizes, min_score=min_score)
        return self.roi_heads.forward_with_given_boxes(predictions.features, proposals)

    @torch.no_grad()
    def detect(
        self,
        predictions: CenterMaskPredictions,
        image_sizes: Tensor,
        max_detections: int,
        greedy: GreedyNMS = FIXPOINT,
    ) -> Detections:
        """Return what :meth:`inference` does in fixed shapes, without a read on the host; can be exported.

        Args:
            predictions: Result of :meth:`predict`.
            image_sizes: (N, 2) int64, height and width of each image before padding.
            max_detections: Number K of slots per image.
            greedy: How greedy NMS is computed.

        Raises:
            ConfigError: The rule of NMS has no fixed shape, or keypoints are on, which have none.
        """
        found = self.proposal_generator.detect(predictions.fcos, max_detections, greedy=greedy)
        return self.roi_heads.detect(predictions.features, found, image_sizes)

    def mask_probabilities(self, detections: Detections, predictions: CenterMaskPredictions) -> Tensor:
        """Return the masks of all slots, (N, K, 28, 28) float32, each of which spans its box; zero in empty slots.

        Args:
            detections: Result of :meth:`detect`.
            predictions: Not used: the masks are already in ``detections``.
        """
        del predictions
        return detections.fields["pred_masks"][:, :, 0]

    @property
    def test_max_detections(self) -> int:
        """Maximum number of detections of an image; negative for no limit."""
        return self.proposal_generator.test_limits.post_nms_topk

    @property
    def has_fixed_shapes(self) -> bool:
        """Whether :meth:`detect` finds what :meth:`inference` does.

        Not without a limit of detections, nor with every rule of NMS, nor with keypoints.
        """
        generator = self.proposal_generator
        return self.test_max_detections > 0 and has_fixed_shape(generator.nms) and not self.roi_heads.keypoint_on

    def postprocess(self, instances: Instances, predictions: Any, index: int, output_size: Size) -> Instances:
        """Return the detections of one image at ``output_size``, with clipped boxes and full-size masks.

        Args:
            instances: Result of :meth:`inference` for the image.
            predictions, index: Not used: the masks are already in ``instances``.
            output_size: (height, width).

        Returns:
            ``pred_masks`` (M, height, width) bool; the other fields as in ``instances``, with ``locations`` still in
            the frame of the network's input. Boxes outside the image are dropped.
        """
        del predictions, index
        paste = paste_into_whole_boxes if self.paste_unclipped else detector_postprocess
        return paste(instances, *output_size)

    def paste(self, instances: Instances, predictions: Any, index: int, output_size: Size) -> tuple[Instances, Tensor]:
        """Return what :meth:`postprocess` does before it drops boxes outside the image, without reading on the host.

        Returns:
            All ``instances``, and (M,) bool, which of them have an area in the image.
        """
        del predictions, index
        return paste_instances(instances, output_size, self.paste_unclipped)
