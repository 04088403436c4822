"""Base class of the one-stage systems: from images to full-image instance masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import Backbone, build_backbone
from detectron2.structures import ImageList, Instances
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from ..ops.host_reads import avoids_host_reads
from .backbone.fpn import subsample_by_slices
from .batches import run_by_padded_size
from .detections import Detections
from .ground_truth import check_ground_truth
from .image_checks import check_images
from .instance_nms import InstanceNMS
from .option_checks import check_at_least, check_probability
from .option_scope import check_options_are_read
from .preprocessing import normalize, normalized_batch
from .semantic import SemanticAuxiliary
from .slots import Inputs, Output, Size, detect_in_slots, keep, lowest_score, paste_all
from .training_picture import put_training_picture


class InstanceSegmentor(nn.Module):
    """A one-stage instance segmentor: ``predict``, ``label``, ``losses``, ``inference``, then ``paste``.

    A subclass supplies these five verbs, and for GPUs and exported files ``detect``, which is ``inference`` in fixed
    shapes, and ``mask_probabilities``. This class supplies what surrounds them: normalization and padding, the choice
    between training and inference, and Detectron2's input and output formats.

    Attributes:
        input_size: (height, width) that the model resizes every image to; None if it takes any size.
        gt_mask_sizes: Fields that training accepts in place of ``gt_masks``, if all of them are given, with the
            (height, width) of their masks: bool tensors (M, height, width) of the instances' masks, reduced by
            ``ops.masks.reduce_masks`` from :attr:`input_size`. Empty if the model needs ``gt_masks``.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        *,
        backbone: Backbone,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        num_classes: int,
        test_nms: InstanceNMS,
        test_score_thresh: float,
        test_max_candidates: int,
        test_max_detections: int = 100,
        vis_period: int = 0,
        input_format: str = "BGR",
        semantic_head: SemanticAuxiliary | None = None,
    ) -> None:
        """
        Args:
            backbone: Computes the feature maps; its ``size_divisibility`` determines the padding.
            pixel_mean: Mean per channel, in the channel order of the input, subtracted from the image.
            pixel_std: Standard deviation per channel, by which the centered image is divided.
            num_classes: Number of foreground classes K.
            test_nms: Suppresses duplicates among the candidates of an image.
            test_score_thresh, test_max_candidates: Least class probability, exclusive, and number of candidates.
            test_max_detections: Maximum number of detections of an image; negative for no limit, as in Detectron2.
            vis_period: Iterations between two pictures of the training in the event storage; 0 for none.
            input_format: Channel order of the input, for those pictures.
            semantic_head: Auxiliary loss on the backbone's features, for a system with :meth:`predict_from`; or None.

        Raises:
            ConfigError: An option is out of range.
        """
        super().__init__()
        check_probability(f"{self.config_key}.SCORE_THRESH_TEST", test_score_thresh)
        check_at_least(f"{self.config_key}.PRE_NMS_TOPK_TEST", test_max_candidates, 1)
        self.vis_period, self.input_format = vis_period, input_format
        self.backbone = subsample_by_slices(backbone)
        self.semantic_head = semantic_head
        self.num_classes = num_classes
        self.test_nms, self.test_score_thresh = test_nms, test_score_thresh
        self.test_max_candidates, self.test_max_detections = test_max_candidates, test_max_detections
        self.expects_0_to_255 = max(pixel_mean) > 1
        self.input_size: tuple[int, int] | None = None
        self.gt_mask_sizes: dict[str, tuple[int, int]] = {}
        # Not persistent: published checkpoints lack them, and the config has them.
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean, dtype=torch.float32).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std, dtype=torch.float32).view(-1, 1, 1), False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Return the constructor arguments that come from Detectron2's options; subclasses add their own.

        Raises:
            ConfigError: An option of another kind of detector is set.
        """
        check_options_are_read(cfg)
        return {
            "backbone": build_backbone(cfg),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "test_max_detections": cfg.TEST.DETECTIONS_PER_IMAGE,
            "vis_period": cfg.VIS_PERIOD,
            "input_format": cfg.INPUT.FORMAT,
        }

    @property
    def config_key(self) -> str:
        """The config node with the options of the system, for messages."""
        return f"MODEL.{type(self).__name__.upper()}"

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor] | list[dict[str, Instances]]:
        """Return the losses in training and the detections in inference, in Detectron2's format.

        Args:
            batched_inputs: One dict per image: ``image``, (C, H, W) in 0..255; in training ``instances`` with
                ``gt_boxes``, ``gt_classes`` and ``gt_masks`` in the frame of ``image``; in inference ``height`` and
                ``width`` of the output, by default those of ``image``, and ``mask_format`` and ``score_threshold``: see
                :func:`~centermask_solo.structures.mask_formats.in_parts`.

        Returns:
            In training a dict of scalar losses. In inference one ``{"instances": Instances}`` per image, of the output
            size, best first, with ``pred_boxes``, ``scores``, ``pred_classes`` and ``pred_masks`` (bool, (M, H, W),
            unless ``mask_format`` asks for another form). Detections do not depend on the rest of the batch: images of
            different padded sizes run in turn.

        Raises:
            DataError: An image has no ``instances`` in training.
        """
        if self.training:
            return self._training_losses(batched_inputs)
        return run_by_padded_size(lambda rows: self._detect([batched_inputs[i] for i in rows]), batched_inputs, self)

    def _detect(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Instances]]:
        """Return the detections of images that are padded or resized to the same size."""
        images = self.preprocess_image(batched_inputs)
        predictions = self.predict(images.tensor)
        outputs = [Output.of(x) for x in batched_inputs]
        if self.has_fixed_shapes and avoids_host_reads(self.device):
            return self.outputs_of_slots(batched_inputs, predictions, images.image_sizes, outputs)
        results = self.inference(predictions, images.image_sizes, min_score=lowest_score(outputs))
        found = [paste_all(self, x, predictions, i, outputs[i]) for i, x in enumerate(results)]
        return self.outputs(found, batched_inputs, predictions, images.image_sizes)

    def outputs_of_slots(
        self, inputs: Inputs, predictions: Any, image_sizes: list[Size], outputs: Sequence[Output]
    ) -> Inputs:
        """Return the output of each image, as :meth:`outputs` does, with one read on the host."""
        found = detect_in_slots(self, predictions, image_sizes, outputs, self.device)
        return self.outputs(found, inputs, predictions, image_sizes)

    def outputs(self, found: list[Instances], inputs: Inputs, predictions: Any, image_sizes: list[Size]) -> Inputs:
        """Return the output of each image: its instances, beside which a subclass puts what else it predicts."""
        del inputs, predictions, image_sizes
        return [{"instances": x} for x in found]

    @property
    def has_fixed_shapes(self) -> bool:
        """Whether :meth:`detect` finds what :meth:`inference` does: not without a limit, nor with every rule of NMS."""
        is_implemented = type(self).detect is not InstanceSegmentor.detect
        return is_implemented and self.test_max_detections > 0 and self.test_nms.has_fixed_shape

    def _training_losses(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Return the losses of a batch."""
        ground_truth = self.ground_truth(batched_inputs)
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor) if self.semantic_head else {}
        predictions = self.predict_from(features) if features else self.predict_for_training(images.tensor)
        if self.vis_period > 0 and get_event_storage().iter % self.vis_period == 0:
            put_training_picture(self, batched_inputs, predictions, images.image_sizes)
        losses = self.losses(predictions, self.label(predictions, *ground_truth))
        return losses | (self.semantic_head.losses(features, ground_truth[0]) if self.semantic_head else {})

    def ground_truth(self, batched_inputs: Inputs) -> tuple[Any, ...]:
        """Return what :meth:`label` takes besides predictions, first the instances of each image; DataError without."""
        check_ground_truth(batched_inputs)
        return ([x["instances"] for x in batched_inputs],)  # where the loader left them: reads there do not wait

    def preprocess_image(self, batched_inputs: list[dict[str, Any]]) -> ImageList:
        """Return the normalized images as one batch on the model's device, (N, C, T_h, T_w) float32.

        With :attr:`input_size`, images are resized to it bilinearly, without antialiasing and without keeping the
        aspect ratio. Otherwise they are zero-padded on the right and at the bottom.

        Raises:
            DataError: An image has another number of channels or no pixels, or in inference values that are not those
                of an image.
        """
        check_images(batched_inputs, self)
        if self.input_size is None:
            return normalized_batch(self, batched_inputs)
        images = [normalize(self, x["image"], self.input_size) for x in batched_inputs]
        return ImageList(torch.stack(images), [self.input_size] * len(images))

    def predict(self, images: Tensor) -> Any:
        """Return what the networks compute for a normalized batch (N, C, T_h, T_w): a NamedTuple of tensors.

        The result does not depend on training or evaluation mode, except through layers such as batch norm.
        """
        raise NotImplementedError

    def predict_from(self, features: dict[str, Tensor]) -> Any:
        """Return what :meth:`predict` returns, from the backbone's features; only for an auxiliary loss on these."""
        raise NotImplementedError

    def predict_for_training(self, images: Tensor) -> Any:
        """Return what :meth:`predict` returns, and the outputs that only the losses need where a system has any."""
        return self.predict(images)

    def label(self, predictions: Any, gt_instances: list[Instances]) -> Any:
        """Return the training targets of ``predictions``: a NamedTuple of tensors without gradient.

        Args:
            predictions: Result of :meth:`predict_for_training`.
            gt_instances: Ground truth of each image, on any device.
        """
        raise NotImplementedError

    def losses(self, predictions: Any, targets: Any) -> dict[str, Tensor]:
        """Return the weighted losses: always the same keys, zero but connected to the parameters if nothing applies.

        Args:
            predictions: Result of :meth:`predict_for_training`.
            targets: Result of :meth:`label`.
        """
        raise NotImplementedError

    def inference(self, predictions: Any, image_sizes: list[Size], *, min_score: float = 0.0) -> list[Instances]:
        """Return the detections of each image in the frame of the network input, best first, without full-size masks.

        Args:
            predictions, image_sizes: Result of :meth:`predict`; (height, width) of each image before padding.
            min_score: Detections of lower scores may be left out.
        """
        raise NotImplementedError

    def suppress(self, candidates: Instances) -> Instances:
        """Return the candidates of one image that NMS keeps, best first, at most ``test_max_detections``."""
        kept = self.test_nms(candidates)
        return kept if self.test_max_detections < 0 else kept[: self.test_max_detections]

    def detect(self, predictions: Any, image_sizes: Tensor, max_detections: int) -> Detections:
        """Return what :meth:`inference` does in fixed shapes, without a read on the host; can be exported.

        Args:
            predictions: Result of :meth:`predict`.
            image_sizes: (N, 2) int64, height and width of each image before padding.
            max_detections: Number K of slots per image.

        Raises:
            ConfigError: The rule of NMS has no fixed shape.
        """
        raise NotImplementedError

    def mask_probabilities(self, detections: Detections, predictions: Any) -> Tensor:
        """Return the masks of all slots at the model's own resolution, (N, K, h, w) float32; can be exported.

        They span the network's input with its padding; those of empty slots mean nothing.

        Args:
            detections: Result of :meth:`detect`.
            predictions: What it was computed from.
        """
        raise NotImplementedError

    def postprocess(self, instances: Instances, predictions: Any, index: int, output_size: Size) -> Instances:
        """Return the detections of one image that have pixels at ``output_size``; arguments as in :meth:`paste`."""
        found, kept = self.paste(instances, predictions, index, output_size)
        return keep(found, kept.tolist())

    def paste(self, instances: Instances, predictions: Any, index: int, output_size: Size) -> tuple[Instances, Tensor]:
        """Return the detections of one image at ``output_size``, with masks and boxes, and which of them stay.

        Masks are computed here, from the result of :meth:`inference` and from ``predictions``, so that full-size masks
        exist for one image at a time, and never as floats.

        Args:
            instances: Result of :meth:`inference` for the image, or slots of :meth:`detect`.
            predictions: Predictions of the batch.
            index: Index of the image in the batch.
            output_size: (height, width).

        Returns:
            All ``instances``, and (M,) bool, which of them have pixels at this size and within the image.
        """
        raise NotImplementedError
