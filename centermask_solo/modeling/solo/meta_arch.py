"""SOLO and Decoupled SOLO (Wang et al., arXiv 1912.04488): instance masks from the cells of grids, without boxes."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Instances
from detectron2.utils.events import get_event_storage, has_event_storage
from torch import Tensor

from ..channels_last import configurable_model
from ..detections import Detections
from ..instance_nms import build_instance_nms
from ..option_checks import check_choice, select_shapes
from ..semantic import build_semantic_auxiliary
from ..solov2.fixed_decode import detect_cells
from ..solov2.full_masks import full_masks
from ..solov2.grid_segmentor import NMS_INPUTS, GridSegmentor
from ..solov2.ground_truth import MASK_STRIDE
from ..solov2.losses import class_loss
from .decode import batch_probabilities, cell_probabilities, decode_batch
from .ground_truth import convert_ground_truth
from .heads import HEADS, KEY, CellMasksHead
from .losses import mask_loss
from .predictions import Predictions
from .targets import SOLOTargets, build_targets


@META_ARCH_REGISTRY.register()
class SOLO(GridSegmentor):
    """SOLO. See :class:`InstanceSegmentor` for inputs and outputs, ``docs/systems/solo.md`` for the method."""

    @configurable_model
    def __init__(self, *, head: CellMasksHead, **kwargs: Any) -> None:
        """
        Args:
            head: Computes class logits and what masks are made from; its ``num_grids`` are also those of the targets.
            kwargs: Arguments of :class:`GridSegmentor`.

        Raises:
            ConfigError: An option is out of range.
        """
        super().__init__(**kwargs)
        self.ins_head = head  # named as in SOLOv2

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Return the constructor arguments from a config.

        Raises:
            ConfigError: Options contradict each other or the backbone.
        """
        node = cfg.MODEL.SOLO
        common = super().from_config(cfg)
        check_choice(f"{KEY}.HEAD", node.HEAD, HEADS)
        shapes = common["backbone"].output_shape()
        levels = select_shapes(shapes, node.IN_FEATURES, f"{KEY}.IN_FEATURES")
        head = HEADS[node.HEAD](
            in_channels=levels[0].channels,
            in_strides=[s.stride for s in levels],
            level_strides=node.STRIDES,
            num_grids=node.NUM_GRIDS,
            num_classes=node.NUM_CLASSES,
            channels=node.INSTANCE_CHANNELS,
            num_convs=node.NUM_INSTANCE_CONVS,
            norm=node.NORM,
            deformable=node.DEFORM_IN_INSTANCE,
            modulated=node.DEFORM_MODULATED,
            prior_prob=node.PRIOR_PROB,
            coordinate_init=node.COORDINATE_INIT,
            drop_prob=node.DROP_BLOCK.PROB,
            drop_size=node.DROP_BLOCK.SIZE,
        )
        test_nms = build_instance_nms(node.NMS, NMS_INPUTS)
        semantic_head = build_semantic_auxiliary(
            shapes, node.IN_FEATURES[0], node.NUM_CLASSES, node.LOSS.SEM_SEG_WEIGHT
        )
        return {
            **common,
            **cls.grid_options(node),
            "head": head,
            "test_nms": test_nms,
            "semantic_head": semantic_head,
        }

    def predict(self, images: Tensor) -> Predictions:
        """Return class logits, and what masks are made from, of a normalized, padded batch (N, C, T_h, T_w)."""
        return self.predict_from(self.backbone(images))

    def predict_from(self, features: dict[str, Tensor]) -> Predictions:
        """Return the same from the features of the backbone."""
        return self.ins_head([features[f] for f in self.instance_in_features])

    def _input_size(self, predictions: Predictions) -> tuple[int, int]:
        """Return the size (T_h, T_w) of the padded input, of which the finest level has the exact fraction."""
        height, width = predictions.map_size(0)
        stride = self.ins_head.level_strides[0] // 2
        return height * stride, width * stride

    @torch.no_grad()
    def label(self, predictions: Predictions, gt_instances: list[Instances]) -> SOLOTargets:
        """Return the targets of a batch.

        Args:
            predictions: Predictions of the batch; their masks determine the size of the padded input.
            gt_instances: N ``Instances`` as :func:`convert_ground_truth` takes them.

        Raises:
            DataError: A class is outside 0..K-1, or masks are missing.
        """
        strides = self.ins_head.level_strides
        ground_truth = convert_ground_truth(
            gt_instances,
            [predictions.map_size(level) for level in range(len(strides))],
            [stride // 2 for stride in strides],
            self.scale_ranges,
            predictions.class_logits[0].device,
        )
        return build_targets(
            ground_truth,
            input_size=self._input_size(predictions),
            num_classes=self.num_classes,
            num_grids=self.ins_head.num_grids,
            scale_ranges=self.scale_ranges,
            sigma=self.sigma,
        )

    def losses(self, predictions: Predictions, targets: SOLOTargets) -> dict[str, Tensor]:
        """Return ``loss_ins`` (masks, dice) and ``loss_cate`` (classes, focal): weighted scalars, SOLOv2's names."""
        if has_event_storage():
            get_event_storage().put_scalar("solo/num_positive_cells", targets.num_positive)
        classes = class_loss(predictions.class_logits, targets, alpha=self.focal_alpha, gamma=self.focal_gamma)
        return self.weighted(mask_loss(predictions, targets), classes)

    @torch.no_grad()
    def inference(
        self, predictions: Predictions, image_sizes: list[tuple[int, int]], *, min_score: float = 0.0
    ) -> list[Instances]:
        """Return the detections of each image, best first, without masks.

        Args:
            predictions: Predictions of the batch.
            image_sizes: (height, width) of each image before padding, in the frame of the network input.
            min_score: See :meth:`InstanceSegmentor.inference`.

        Returns:
            For each image ``scores``, ``pred_classes`` and ``cells``, (M,) int64, whose masks :meth:`postprocess`
            computes.
        """
        options = self.decode_options(min_score)
        candidates = decode_batch(predictions, size=self._mask_size(predictions), **options)
        # Unlike a loop variable, map keeps no reference to the masks of one image while it decodes the next.
        return list(map(lambda found, size: self.keep(found._asdict(), size), candidates, image_sizes))

    def _mask_size(self, predictions: Predictions) -> tuple[int, int]:
        """Return the size of masks at stride 4."""
        height, width = self._input_size(predictions)
        return height // MASK_STRIDE, width // MASK_STRIDE

    @torch.no_grad()
    def detect(self, predictions: Predictions, image_sizes: Tensor, max_detections: int) -> Detections:
        """Return the detections of a batch with the field ``cells``; see :meth:`InstanceSegmentor.detect`."""
        del image_sizes  # masks reach into the padding, like the published code's
        return detect_cells(
            predictions.class_logits,
            batch_probabilities(predictions, slice(None), self._mask_size(predictions)),
            self.test_nms,
            max_detections=max_detections,
            **self.decode_options(),
        )

    @torch.no_grad()
    def mask_probabilities(self, detections: Detections, predictions: Predictions) -> Tensor:
        """Return the masks of all slots at stride 4; see :meth:`InstanceSegmentor.mask_probabilities`."""
        masks_of = batch_probabilities(predictions, slice(None), self._mask_size(predictions))
        return masks_of(detections.fields["cells"])[0]

    @torch.no_grad()
    def paste(
        self, instances: Instances, predictions: Predictions, index: int, output_size: tuple[int, int]
    ) -> tuple[Instances, Tensor]:
        """Return the detections of one image at ``output_size``, and which stay: see ``InstanceSegmentor.paste``."""
        size = self._mask_size(predictions)
        masks = full_masks(
            instances.cells,
            cell_probabilities(predictions, index, size),
            size,
            stride=MASK_STRIDE,
            image_size=instances.image_size,
            output_size=output_size,
            mask_thresh=self.test_mask_thresh,
        )
        return self.finish(instances, masks)
