"""SOLOv2 (Wang et al., arXiv 2003.10152): instance masks from dynamic kernels, without boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Instances
from detectron2.utils.events import get_event_storage, has_event_storage
from torch import Tensor

from ...ops.levels import flatten_levels
from ...ops.precision import in_float32
from ..channels_last import configurable_model
from ..detections import Detections
from ..instance_nms import build_instance_nms
from ..option_checks import select_shapes
from ..semantic import build_semantic_auxiliary
from .decode import decode_batch
from .fixed_decode import detect_cells
from .full_masks import decode_full_masks, mask_probabilities
from .grid_segmentor import NMS_INPUTS, GridSegmentor
from .ground_truth import MASK_STRIDE, convert_ground_truth
from .heads import KEY, SOLOv2InstanceHead, SOLOv2MaskHead, SOLOv2Predictions
from .losses import class_loss, mask_loss
from .targets import SOLOv2Targets, build_targets


@META_ARCH_REGISTRY.register()
class SOLOv2(GridSegmentor):
    """SOLOv2. See :class:`InstanceSegmentor` for inputs and outputs, ``docs/systems/solov2.md`` for the method."""

    @configurable_model
    def __init__(
        self,
        *,
        instance_head: SOLOv2InstanceHead,
        mask_head: SOLOv2MaskHead,
        mask_in_features: Sequence[str],
        **kwargs: Any,
    ) -> None:
        """
        Args:
            instance_head: Computes class logits and kernels; its ``num_grids`` are also those of the targets.
            mask_head: Computes the mask features, at stride 4.
            mask_in_features: Names of the feature maps of ``mask_head``, finest first.
            kwargs: Arguments of :class:`GridSegmentor`.

        Raises:
            ConfigError: An option is out of range.
        """
        super().__init__(**kwargs)
        self.ins_head = instance_head  # both named as in AdelaiDet's checkpoints
        self.mask_head = mask_head
        self.mask_in_features = list(mask_in_features)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Return the constructor arguments from a config.

        Raises:
            ConfigError: Options contradict each other or the backbone.
        """
        node = cfg.MODEL.SOLOV2
        common = super().from_config(cfg)
        shapes = common["backbone"].output_shape()
        levels = select_shapes(shapes, node.IN_FEATURES, f"{KEY}.IN_FEATURES")
        mask_levels = select_shapes(shapes, node.MASK_IN_FEATURES, f"{KEY}.MASK_IN_FEATURES")
        modulated = node.DEFORM_MODULATED
        return {
            **common,
            **cls.grid_options(node),
            "semantic_head": build_semantic_auxiliary(
                shapes, node.IN_FEATURES[0], node.NUM_CLASSES, node.LOSS.SEM_SEG_WEIGHT
            ),
            "instance_head": SOLOv2InstanceHead(
                in_channels=levels[0].channels,
                in_strides=[s.stride for s in levels],
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
                coordinate_init=node.COORDINATE_INIT,
                drop_prob=node.DROP_BLOCK.PROB,
                drop_size=node.DROP_BLOCK.SIZE,
            ),
            "mask_head": SOLOv2MaskHead(
                in_channels=mask_levels[0].channels,
                in_strides=[s.stride for s in mask_levels],
                channels=node.MASK_CHANNELS,
                kernel_length=node.NUM_MASKS,
                norm=node.NORM,
                deformable=node.DEFORM_IN_MASK,
                modulated=modulated,
                coordinate_init=node.COORDINATE_INIT,
            ),
            "mask_in_features": node.MASK_IN_FEATURES,
            "test_nms": build_instance_nms(node.NMS, NMS_INPUTS),
        }

    def predict(self, images: Tensor) -> SOLOv2Predictions:
        """Return class logits, kernels and mask features of a normalized, padded batch (N, C, T_h, T_w)."""
        return self.predict_from(self.backbone(images))

    def predict_from(self, features: dict[str, Tensor]) -> SOLOv2Predictions:
        """Return the same from the features of the backbone."""
        class_logits, kernels = self.ins_head([features[f] for f in self.instance_in_features])
        mask_features = self.mask_head([features[f] for f in self.mask_in_features])
        return SOLOv2Predictions(class_logits, kernels, mask_features)

    @torch.no_grad()
    def label(self, predictions: SOLOv2Predictions, gt_instances: list[Instances]) -> SOLOv2Targets:
        """Return the targets of a batch.

        Args:
            predictions: Predictions of the batch; their mask features determine the size of the padded input.
            gt_instances: N ``Instances`` as :func:`convert_ground_truth` takes them.

        Raises:
            DataError: A class is outside 0..K-1, or masks are missing.
        """
        features = predictions.mask_features
        return build_targets(
            convert_ground_truth(gt_instances, (features.shape[2], features.shape[3]), features.device),
            num_classes=self.num_classes,
            num_grids=self.ins_head.num_grids,
            scale_ranges=self.scale_ranges,
            sigma=self.sigma,
        )

    def losses(self, predictions: SOLOv2Predictions, targets: SOLOv2Targets) -> dict[str, Tensor]:
        """Return ``loss_ins`` (masks, dice) and ``loss_cate`` (classes, focal): weighted float32 scalars.

        The keys are AdelaiDet's, so that logs can be compared.
        """
        if has_event_storage():
            storage = get_event_storage()
            storage.put_scalar("solov2/num_positive_cells", targets.num_positive)
            storage.put_scalar("solov2/num_dice_terms", len(targets.term_cells))
        mask = mask_loss(predictions.kernels, predictions.mask_features, targets)
        classes = class_loss(predictions.class_logits, targets, alpha=self.focal_alpha, gamma=self.focal_gamma)
        return self.weighted(mask, classes)

    @torch.no_grad()
    def inference(
        self, predictions: SOLOv2Predictions, image_sizes: list[tuple[int, int]], *, min_score: float = 0.0
    ) -> list[Instances]:
        """Return the detections of each image, best first, without masks.

        Args:
            predictions: Predictions of the batch.
            image_sizes: (height, width) of each image before padding, in the frame of the network input.
            min_score: See :meth:`InstanceSegmentor.inference`.

        Returns:
            For each image ``scores``, ``pred_classes`` and ``kernels``, (M, E) float32, from which :meth:`postprocess`
            computes the masks.
        """
        candidates = decode_batch(*predictions, **self.decode_options(min_score))
        # Unlike a loop variable, map keeps no reference to the masks of one image while it decodes the next.
        return list(map(lambda found, size: self.keep(found._asdict(), size), candidates, image_sizes))

    @torch.no_grad()
    def detect(self, predictions: SOLOv2Predictions, image_sizes: Tensor, max_detections: int) -> Detections:
        """Return the detections of a batch with the field ``kernels``; see :meth:`InstanceSegmentor.detect`."""
        del image_sizes  # masks reach into the padding, like the published code's
        size = predictions.mask_features.shape[2:]
        features = predictions.mask_features.float().flatten(2)
        kernels = flatten_levels(predictions.kernels).float()

        def kernels_of(cells: Tensor) -> Tensor:
            return kernels.gather(1, cells[:, :, None].expand(-1, -1, kernels.shape[2]))

        def mask_scores(cells: Tensor) -> tuple[Tensor, Tensor]:
            probabilities, finite = mask_probabilities(kernels_of(cells), features)
            return probabilities.unflatten(2, size), finite

        with in_float32(features):
            found = detect_cells(
                predictions.class_logits,
                mask_scores,
                self.test_nms,
                max_detections=max_detections,
                **self.decode_options(),
            )
        of_slots = torch.where(found.filled()[:, :, None], kernels_of(found.fields["cells"]), 0.0)
        return found.with_fields({"kernels": of_slots})

    @torch.no_grad()
    def mask_probabilities(self, detections: Detections, predictions: SOLOv2Predictions) -> Tensor:
        """Return the masks of all slots at stride 4; see :meth:`InstanceSegmentor.mask_probabilities`."""
        features = predictions.mask_features.float()
        with in_float32(features):
            masks, _ = mask_probabilities(detections.fields["kernels"], features.flatten(2))
        return masks.unflatten(2, features.shape[2:])

    @torch.no_grad()
    def paste(
        self, instances: Instances, predictions: SOLOv2Predictions, index: int, output_size: tuple[int, int]
    ) -> tuple[Instances, Tensor]:
        """Return the detections of one image at ``output_size``, and which stay: see ``InstanceSegmentor.paste``."""
        masks = decode_full_masks(
            instances.kernels,
            predictions.mask_features[index],
            stride=MASK_STRIDE,
            image_size=instances.image_size,
            output_size=output_size,
            mask_thresh=self.test_mask_thresh,
        )
        return self.finish(instances, masks)
