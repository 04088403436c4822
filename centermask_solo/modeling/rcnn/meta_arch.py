"""R-CNN as a Detectron2 meta-architecture that predicts boxes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone, detector_postprocess
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference_single_image
from detectron2.structures import Instances
from torch import Tensor, nn

from ...ops.selective_search import selective_search
from ...utils.errors import ConfigError
from ..channels_last import configurable_model
from ..ground_truth import check_classes, check_ground_truth
from ..image_checks import check_images
from ..option_checks import check_at_least
from ..option_scope import check_options_are_read
from ..preprocessing import normalize
from .fitting import FitOptions, fit
from .svm import require_sklearn
from .targets import SampledRegions, SamplingOptions, sample_regions
from .warp import warp_regions


class RegionOptions(NamedTuple):
    """What regions are shown to the network, and how many: see ``MODEL.RCNN``."""

    search_mode: str
    size: int
    context: int
    per_batch: int
    max_test: int


class RegionPredictions(NamedTuple):
    """The outputs of the networks for regions."""

    class_logits: Tensor  # (R, K + 1), the background last
    margins: Tensor  # (R, K), of the SVMs
    box_deltas: Tensor  # (R, 4 K), of Detectron2's Box2BoxTransform


@META_ARCH_REGISTRY.register()
class RCNN(nn.Module):
    """R-CNN: selective search, a network on every region, an SVM per class, and a regression of boxes.

    ``propose``, then the verbs of every system: ``predict``, ``label``, ``losses``, ``inference``. Training fine-tunes
    the network as a classifier of regions; :meth:`fit` then fits the SVMs and the box regression, which the trainer
    calls after its last iteration. Until then the softmax of the fine-tuning classifies, and boxes stay as they are.

    Source: Girshick et al., "Rich feature hierarchies for accurate object detection and semantic segmentation", CVPR
    2014, arXiv 1311.2524.
    Differs: any backbone; ``scores`` are the logistic function of the SVMs' margins, which keeps their order; boxes are
    moved before duplicates are suppressed.
    """

    pixel_mean: Tensor
    pixel_std: Tensor
    is_fitted: Tensor  # () bool

    @configurable_model
    def __init__(
        self,
        *,
        backbone: Backbone,
        in_feature: str,
        pooled_size: int,
        fc_dim: int,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        num_classes: int,
        regions: RegionOptions,
        sampling: SamplingOptions,
        fit_options: FitOptions,
        test_score_thresh: float,
        test_nms_thresh: float,
        test_max_detections: int,
        input_format: str = "BGR",
    ) -> None:
        """
        Args:
            backbone: Computes the features of a region.
            in_feature: Which of its maps is used.
            pooled_size: Side of the grid that the map is averaged to.
            fc_dim: Length of the features that are classified.
            pixel_mean, pixel_std: Mean and standard deviation per channel, in the channel order of the input.
            num_classes: Number of foreground classes K.
            regions: What regions are shown to the network.
            sampling: Which regions the fine-tuning draws.
            fit_options: How SVMs and box regression are fitted.
            test_score_thresh: Minimum score of a detection, exclusive.
            test_nms_thresh: IoU with a better box of its class from which on a box is a duplicate.
            test_max_detections: Maximum number of detections of an image; negative for no limit.
            input_format: Channel order of the input, for selective search.

        Raises:
            ConfigError: The backbone has no such map, or the context leaves no pixel for the region.
        """
        super().__init__()
        shapes = backbone.output_shape()
        if in_feature not in shapes:
            raise ConfigError(f"MODEL.RCNN.IN_FEATURE '{in_feature}' is not one of {', '.join(shapes)}")
        check_at_least("MODEL.RCNN.REGION_SIZE", regions.size, 2 * regions.context + 1)
        self.backbone, self.in_feature, self.pooled_size = backbone, in_feature, pooled_size
        self.num_classes, self.regions, self.sampling, self.fit_options = num_classes, regions, sampling, fit_options
        self.test_score_thresh, self.test_nms_thresh = test_score_thresh, test_nms_thresh
        self.test_max_detections, self.input_format = test_max_detections, input_format
        self.max_fit_images = fit_options.max_images
        self.expects_0_to_255 = max(pixel_mean) > 1
        self.box2box_transform = Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0))
        num_pooled = int(shapes[in_feature].channels or 0) * pooled_size**2
        self.embedding = nn.Linear(num_pooled, fc_dim)
        self.class_pred = nn.Linear(fc_dim, num_classes + 1)
        nn.init.normal_(self.class_pred.weight, std=0.01)
        self.svm, self.box_pred = nn.Linear(fc_dim, num_classes), nn.Linear(num_pooled, 4 * num_classes)
        for layer in (self.svm, self.box_pred):  # fitted, not trained
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
            layer.requires_grad_(False)
        self.register_buffer("is_fitted", torch.tensor(False))
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean, dtype=torch.float32).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std, dtype=torch.float32).view(-1, 1, 1), False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Return the constructor's arguments from a config.

        Raises:
            ConfigError: An option of another kind of detector is set, or masks are asked for.
        """
        check_options_are_read(cfg)
        if cfg.MODEL.MASK_ON:
            raise ConfigError("R-CNN predicts no masks: set MODEL.MASK_ON False")
        node = cfg.MODEL.RCNN
        return {
            "backbone": build_backbone(cfg),
            "in_feature": node.IN_FEATURE,
            "pooled_size": node.POOLED_SIZE,
            "fc_dim": node.FC_DIM,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "num_classes": node.NUM_CLASSES,
            "regions": RegionOptions(
                node.SEARCH_MODE, node.REGION_SIZE, node.CONTEXT, node.REGIONS_PER_BATCH, node.MAX_REGIONS_TEST
            ),
            "sampling": SamplingOptions(node.BATCH_SIZE_PER_IMAGE, node.POSITIVE_FRACTION, node.POSITIVE_IOU),
            "fit_options": FitOptions.from_cfg(cfg),
            "test_score_thresh": node.SCORE_THRESH_TEST,
            "test_nms_thresh": node.NMS_THRESH_TEST,
            "test_max_detections": cfg.TEST.DETECTIONS_PER_IMAGE,
            "input_format": cfg.INPUT.FORMAT,
        }

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor] | list[dict[str, Instances]]:
        """Return the loss in training and the detections in inference, in Detectron2's format.

        Args:
            batched_inputs: One dict per image: ``image``, (C, H, W) in 0..255; in training ``instances`` with
                ``gt_boxes`` and ``gt_classes``; in inference ``height`` and ``width`` of the output, by default those
                of ``image``. ``proposals`` with ``proposal_boxes``, best first, take the place of selective search.

        Raises:
            DataError: An image has no ``instances`` in training.
            MissingPackageError: There are no ``proposals``, and nothing that can search for regions is installed.
        """
        if self.training:
            check_ground_truth(batched_inputs)
            images = self.preprocess_image(batched_inputs)
            boxes = [self.propose(x) for x in batched_inputs]
            targets = self.label(boxes, [x["instances"] for x in batched_inputs])
            regions = [self.warp(*x) for x in zip(images, (t.boxes for t in targets), strict=True)]
            return self.losses(self.predict(torch.cat(regions)), targets)
        images = self.preprocess_image(batched_inputs)
        return [{"instances": self._detect(image, x)} for image, x in zip(images, batched_inputs, strict=True)]

    def _detect(self, image: Tensor, x: dict[str, Any]) -> Instances:
        """Return the detections in a normalized image, in the frame of the output."""
        boxes = self.propose(x)[: self.regions.max_test]
        pooled = self.pooled_features(image, boxes)
        found = self.inference(self.predict_from(pooled), boxes, (image.shape[1], image.shape[2]))
        return detector_postprocess(found, x.get("height", image.shape[1]), x.get("width", image.shape[2]))

    def preprocess_image(self, batched_inputs: list[dict[str, Any]]) -> list[Tensor]:
        """Return the normalized images on the model's device, (C, H, W) float32 each, of their own sizes.

        Raises:
            DataError: One is not an image of this model.
        """
        check_images(batched_inputs, self)
        return [normalize(self, x["image"]) for x in batched_inputs]

    def propose(self, x: dict[str, Any]) -> Tensor:
        """Return the regions of an input, at least one: its ``proposals``, or what selective search finds.

        Returns:
            (R, 4) float32 in the frame of its ``image``, the most promising first.
        """
        height, width = x["image"].shape[1:]
        if "proposals" in x:
            boxes = x["proposals"].proposal_boxes.tensor
        else:
            image = x["image"].clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
            pixels = image[:, :, ::-1] if self.input_format == "BGR" else image
            boxes = torch.from_numpy(selective_search(np.ascontiguousarray(pixels), self.regions.search_mode))
        return (boxes if len(boxes) else torch.tensor([[0.0, 0.0, width, height]])).to(self.device)

    def warp(self, image: Tensor, boxes: Tensor) -> Tensor:
        """Return regions of a normalized image as inputs of the network; see :func:`.warp.warp_regions`."""
        return warp_regions(image, boxes, self.regions.size, self.regions.context)

    def pooled_features(self, image: Tensor, boxes: Tensor) -> Tensor:
        """Return the features of regions of a normalized image, (R, D) float, a bounded number at a time."""
        parts = [self.pool(self.warp(image, x)) for x in boxes.split(self.regions.per_batch)]
        return torch.cat(parts) if parts else boxes.new_zeros(0, self.embedding.in_features)

    def pool(self, regions: Tensor) -> Tensor:
        """Return the backbone's features of warped regions (R, C, S, S), averaged to a grid: (R, D)."""
        return F.adaptive_avg_pool2d(self.backbone(regions)[self.in_feature], self.pooled_size).flatten(1)

    def embed(self, pooled: Tensor) -> Tensor:
        """Return what is classified, (R, FC_DIM), from the pooled features (R, D)."""
        return F.relu(self.embedding(pooled))

    def predict(self, regions: Tensor) -> RegionPredictions:
        """Return the outputs of the networks for warped regions, (R, C, S, S) float, normalized."""
        return self.predict_from(self.pool(regions))

    def predict_from(self, pooled: Tensor) -> RegionPredictions:
        """Return the same from the pooled features, (R, D)."""
        embedded = self.embed(pooled)
        return RegionPredictions(self.class_pred(embedded), self.svm(embedded), self.box_pred(pooled))

    def label(self, boxes: list[Tensor], gt_instances: list[Instances]) -> list[SampledRegions]:
        """Return the regions of each image that training samples, the objects' own boxes among them, and their classes.

        Raises:
            DataError: A class is none of the model's.
        """
        check_classes(torch.cat([x.gt_classes for x in gt_instances]), self.num_classes, "MODEL.RCNN.NUM_CLASSES")
        return [
            sample_regions(
                proposed,
                gt.gt_boxes.tensor.to(self.device),
                gt.gt_classes.to(self.device),
                self.num_classes,
                self.sampling,
            )
            for proposed, gt in zip(boxes, gt_instances, strict=True)
        ]

    def losses(self, predictions: RegionPredictions, targets: list[SampledRegions]) -> dict[str, Tensor]:
        """Return ``loss_cls``, the cross entropy of the regions' classes; zero but connected without regions."""
        classes = torch.cat([x.classes for x in targets])
        total = F.cross_entropy(predictions.class_logits.float(), classes, reduction="sum")
        return {"loss_cls": total / max(len(classes), 1)}

    def inference(self, predictions: RegionPredictions, boxes: Tensor, image_size: tuple[int, int]) -> Instances:
        """Return the detections of an image, best first, in the frame of the network's input.

        Args:
            predictions: Of its regions.
            boxes: The regions, (R, 4).
            image_size: (height, width).
        """
        if self.is_fitted:
            scores = F.pad(predictions.margins.float().sigmoid(), (0, 1))  # and a column for the background
        else:
            scores = predictions.class_logits.float().softmax(dim=1)
        moved = self.box2box_transform.apply_deltas(predictions.box_deltas.float(), boxes)
        return fast_rcnn_inference_single_image(
            moved, scores, image_size, self.test_score_thresh, self.test_nms_thresh, self.test_max_detections
        )[0]

    def check_fit(self) -> None:
        """Raise MissingPackageError unless scikit-learn, which :meth:`fit` needs, is installed."""
        require_sklearn()

    @torch.no_grad()
    def fit(self, batches: Iterable[list[dict[str, Any]]], folder: str) -> None:
        """Fit the SVMs and the box regression to training images; see :func:`.fitting.fit`."""
        fit(self, batches, folder, self.fit_options)
