"""SOLOv2 with a semantic head: panoptic segmentation (arXiv 2003.10152, section 4)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, build_sem_seg_head
from detectron2.modeling.meta_arch.panoptic_fpn import combine_semantic_and_instance_outputs
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead
from detectron2.structures import ImageList, Instances
from torch import Tensor, nn

from ...structures.label_map import LabelMap
from ...structures.mask_formats import MASK_FORMAT, MAX_MASK_BYTES
from ...utils.errors import ConfigError, DataError
from ..channels_last import configurable_model
from ..option_checks import check_groups, select_shapes
from ..parts_of_batch import pad_as_whole
from ..slots import Output, Slots, detect_in_slots
from .heads import SOLOv2Predictions
from .meta_arch import SOLOv2
from .panoptic_merge import MergeOptions, merge_slots, segments_of
from .sem_seg import sem_seg_loss, sem_seg_map
from .targets import SOLOv2Targets


class PanopticPredictions(NamedTuple):
    """The outputs of the networks for a batch of N images: those of SOLOv2 and semantic logits.

    Attributes:
        class_logits: L x (N, K, S, S).
        kernels: L x (N, E, S, S).
        mask_features: (N, E, T_h / 4, T_w / 4).
        sem_seg_logits: (N, C, T_h / 4, T_w / 4), of all things, then of C - 1 classes of stuff.
    """

    class_logits: list[Tensor]
    kernels: list[Tensor]
    mask_features: Tensor
    sem_seg_logits: Tensor


class PanopticTargets(NamedTuple):
    """The training targets of a batch of N images."""

    instances: SOLOv2Targets
    sem_seg: Tensor  # (N, T_h, T_w) int64, 0..C-1 or the head's ``ignore_value``


@META_ARCH_REGISTRY.register()
class PanopticSOLOv2(SOLOv2):
    """SOLOv2, Detectron2's semantic head beside it, and the merging of Panoptic-FPN.

    Inputs and outputs are those of Detectron2's ``PanopticFPN``: training also needs ``sem_seg``, int64 labels (H, W)
    of which 0 is any thing and 1, 2, ... are stuff; inference also returns ``sem_seg`` and ``panoptic_seg``.

    Source: SOLOv2 (arXiv 2003.10152), section 4; Panoptic-FPN (arXiv 1901.02446). No code was published.
    """

    @configurable_model
    def __init__(
        self,
        *,
        sem_seg_head: nn.Module,
        combine_overlap_thresh: float = 0.5,
        combine_stuff_area_thresh: int = 4096,
        combine_instances_score_thresh: float = 0.5,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            sem_seg_head: A ``SemSegFPNHead``; computes class logits of pixels.
            combine_overlap_thresh: Share of an instance under better ones above which it is dropped.
            combine_stuff_area_thresh: Pixels of the output below which a class of stuff is dropped.
            combine_instances_score_thresh: Minimum score of an instance, inclusive.
            kwargs: Arguments of :class:`SOLOv2`.

        Raises:
            ConfigError: The head is another one, or an option is out of range.
        """
        super().__init__(**kwargs)
        if not isinstance(sem_seg_head, SemSegFPNHead):
            raise ConfigError(
                f"MODEL.SEM_SEG_HEAD.NAME {type(sem_seg_head).__name__} does not fit MODEL.META_ARCHITECTURE "
                f"{type(self).__name__}, which needs SemSegFPNHead or a subclass of it"
            )
        self.sem_seg_head = sem_seg_head
        self.combine_overlap_thresh = combine_overlap_thresh
        self.combine_stuff_area_thresh = combine_stuff_area_thresh
        self.combine_instances_score_thresh = combine_instances_score_thresh

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Return the constructor arguments from a config.

        Raises:
            ConfigError: Options contradict each other or the backbone.
        """
        common, head, node = super().from_config(cfg), cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.PANOPTIC_FPN.COMBINE
        shapes = common["backbone"].output_shape()
        select_shapes(shapes, head.IN_FEATURES, "MODEL.SEM_SEG_HEAD.IN_FEATURES")
        check_groups("MODEL.SEM_SEG_HEAD.CONVS_DIM", head.CONVS_DIM, head.NORM)
        return {
            **common,
            "sem_seg_head": build_sem_seg_head(cfg, shapes),
            "combine_overlap_thresh": node.OVERLAP_THRESH,
            "combine_stuff_area_thresh": node.STUFF_AREA_LIMIT,
            "combine_instances_score_thresh": node.INSTANCES_CONFIDENCE_THRESH,
        }

    @property
    def config_key(self) -> str:
        """The config node with the options of the instances, for messages."""
        return "MODEL.SOLOV2"

    def predict_from(self, features: dict[str, Tensor]) -> PanopticPredictions:  # type: ignore[override]
        """Return SOLOv2's outputs and semantic logits from the features of the backbone."""
        return PanopticPredictions(*super().predict_from(features), self.sem_seg_head.layers(features))

    def ground_truth(self, batched_inputs: list[dict[str, Any]]) -> tuple[Any, ...]:
        """Return the instances of each image and the padded semantic labels of the batch, (N, T_h, T_w) int64.

        Raises:
            DataError: Instances or labels are missing, or labels have another size or number of classes.
        """
        (gt_instances,) = super().ground_truth(batched_inputs)
        for x in batched_inputs:
            self._check_labels(x)
        labels = [x["sem_seg"].to(self.device) for x in batched_inputs]
        divisibility, constraints = self.backbone.size_divisibility, self.backbone.padding_constraints
        ignored = self.sem_seg_head.ignore_value
        padded = pad_as_whole(ImageList.from_tensors(labels, divisibility, ignored, constraints), ignored)
        return gt_instances, padded.tensor

    def _check_labels(self, x: dict[str, Any]) -> None:
        name, head = x.get("file_name", "an image"), self.sem_seg_head
        if "sem_seg" not in x:
            raise DataError(
                f'panoptic training needs semantic labels, but {name} has no "sem_seg": train on a dataset that '
                "register_coco_panoptic_separated registers (datasets/README.md), or call eval() to predict"
            )
        labels, num_classes = x["sem_seg"], head.predictor.out_channels
        if labels.shape != x["image"].shape[1:]:
            raise DataError(
                f"the semantic labels of {name} have the shape {tuple(labels.shape)}, but its image has "
                f"{tuple(x['image'].shape[1:])}: both must go through the same transforms"
            )
        unknown = labels[(labels != head.ignore_value) & ((labels < 0) | (labels >= num_classes))]
        if len(unknown):
            raise DataError(
                f"the semantic labels of {name} hold {unknown[0].item()}, but MODEL.SEM_SEG_HEAD.NUM_CLASSES is "
                f"{num_classes}: correct the label image, or set the option to the number of stuff_classes"
            )

    @torch.no_grad()
    def label(  # type: ignore[override]
        self, predictions: PanopticPredictions, gt_instances: list[Instances], gt_sem_seg: Tensor
    ) -> PanopticTargets:
        """Return the targets of a batch.

        Args:
            predictions: Result of :meth:`predict`.
            gt_instances: As for :meth:`SOLOv2.label`.
            gt_sem_seg: (N, T_h, T_w) int64, padded with the head's ``ignore_value``.
        """
        return PanopticTargets(super().label(_of_instances(predictions), gt_instances), gt_sem_seg)

    def losses(  # type: ignore[override]
        self, predictions: PanopticPredictions, targets: PanopticTargets
    ) -> dict[str, Tensor]:
        """Return SOLOv2's losses and ``loss_sem_seg``: weighted float32 scalars."""
        head = self.sem_seg_head
        loss = sem_seg_loss(predictions.sem_seg_logits, targets.sem_seg, head.common_stride, head.ignore_value)
        instances = super().losses(_of_instances(predictions), targets.instances)
        return {**instances, "loss_sem_seg": head.loss_weight * loss}

    def inference(  # type: ignore[override]
        self, predictions: PanopticPredictions, image_sizes: list[tuple[int, int]], *, min_score: float = 0.0
    ) -> list[Instances]:
        """Return the detected instances of each image; see :meth:`SOLOv2.inference`."""
        return super().inference(_of_instances(predictions), image_sizes, min_score=min_score)

    @torch.no_grad()
    def outputs(
        self,
        found: list[Instances],
        inputs: list[dict[str, Any]],
        predictions: PanopticPredictions,
        image_sizes: list[tuple[int, int]],
    ) -> list[dict[str, Any]]:
        """Return the output of each image, with ``sem_seg`` and ``panoptic_seg`` beside ``instances``.

        ``sem_seg`` has the logits, (C, H, W) float32; where the input asks for other masks than dense ones and these
        would take more than 256 MiB, it is a :class:`~centermask_solo.structures.label_map.LabelMap`.
        """
        results = super().outputs(found, inputs, predictions, image_sizes)
        for i, (result, x) in enumerate(zip(results, inputs, strict=True)):
            instances = result["instances"]
            sem_seg, labels = self.sem_seg_map(predictions, i, image_sizes[i], instances.image_size, x)
            merged = combine_semantic_and_instance_outputs(
                instances,
                labels if isinstance(instances.pred_masks, Tensor) else labels.cpu(),  # where codes are decoded
                *self.merge_options,
            )
            result |= {"sem_seg": sem_seg, "panoptic_seg": merged}
        return results

    def outputs_of_slots(
        self,
        inputs: list[dict[str, Any]],
        predictions: PanopticPredictions,
        image_sizes: list[tuple[int, int]],
        outputs: Sequence[Output],
    ) -> list[dict[str, Any]]:
        """Return what :meth:`outputs` does, with one read on the host for all images whose masks fit in memory."""
        merging = _Merging(self, predictions, image_sizes, outputs)
        found = detect_in_slots(self, predictions, image_sizes, outputs, self.device, merging)
        results: list[dict[str, Any]] = []
        for i, x in enumerate(found):
            if i in merging.results:
                results.append({"instances": x, **merging.results[i]})
            else:
                of_image = predictions._replace(sem_seg_logits=predictions.sem_seg_logits[i : i + 1])
                results += self.outputs([x], [inputs[i]], of_image, [image_sizes[i]])
        return results

    @property
    def merge_options(self) -> MergeOptions:
        """When a segment is left out, in the order of the arguments of Detectron2's function."""
        return MergeOptions(
            self.combine_overlap_thresh, self.combine_stuff_area_thresh, self.combine_instances_score_thresh
        )

    def sem_seg_map(
        self,
        predictions: PanopticPredictions,
        index: int,
        image_size: tuple[int, int],
        output_size: tuple[int, int],
        options: Mapping[str, Any],
    ) -> tuple[Tensor | LabelMap, Tensor]:
        """Return ``sem_seg`` of one image and the best class of each pixel, (H, W) int64; see :func:`sem_seg_map`."""
        max_bytes = math.inf if options.get(MASK_FORMAT, "dense") == "dense" else MAX_MASK_BYTES
        stride = self.sem_seg_head.common_stride
        return sem_seg_map(predictions.sem_seg_logits[index], stride, image_size, output_size, max_bytes=max_bytes)


class _Merging:
    """The :class:`~centermask_solo.modeling.slots.Companion` of the instances.

    Attributes:
        results: ``sem_seg`` and ``panoptic_seg`` of images, by index.
    """

    def __init__(
        self,
        model: PanopticSOLOv2,
        predictions: PanopticPredictions,
        image_sizes: list[tuple[int, int]],
        outputs: Sequence[Output],
    ) -> None:
        self._model, self._predictions = model, predictions
        self._image_sizes, self._outputs = image_sizes, outputs
        self._computed: dict[int, tuple[Tensor | LabelMap, Tensor, int]] = {}
        self.results: dict[int, dict[str, Any]] = {}

    def compute(self, index: int, slots: Slots) -> Tensor:
        """Return the numbers of the segments of an image."""
        size, options = self._outputs[index]
        sem_seg, labels = self._model.sem_seg_map(self._predictions, index, self._image_sizes[index], size, options)
        num_classes = self._predictions.sem_seg_logits.shape[1]
        merged = merge_slots(slots, labels, num_classes, self._model.merge_options)
        self._computed[index] = sem_seg, merged.segmentation, len(slots.kept)
        return merged.numbers

    def take(self, index: int, numbers: list[int]) -> None:
        """Put the outputs of an image beside its instances into :attr:`results`."""
        sem_seg, segmentation, num_slots = self._computed.pop(index)
        if self._outputs[index].options.get(MASK_FORMAT, "dense") != "dense":
            segmentation = segmentation.cpu()  # as Detectron2's function does it, from codes
        self.results[index] = {"sem_seg": sem_seg, "panoptic_seg": (segmentation, segments_of(numbers, num_slots))}


def _of_instances(predictions: PanopticPredictions) -> SOLOv2Predictions:
    return SOLOv2Predictions(predictions.class_logits, predictions.kernels, predictions.mask_features)
