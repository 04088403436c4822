"""The part of a model that finds instances, as a model of this package that has all verbs, and its limits."""

from __future__ import annotations

from typing import Any, NamedTuple

from detectron2.modeling import GeneralizedRCNN
from torch import Tensor, nn

from ..ops.fixed_nms import greedy_nms_as_operator
from ..utils.errors import ConfigError
from .centermask import CenterMask
from .centermask.roi_heads import CenterROIHeads
from .detections import Detections
from .fcos import FCOS, FCOSProposalGenerator
from .instance_nms import InstanceNMS


def instance_part(model: nn.Module) -> nn.Module:
    """Return the model itself, or a CenterMask of the parts of one that is built under another name.

    Those are Detectron2's GeneralizedRCNN, which the authors' files name, and PanopticFPN, without its semantic
    segmentation. The parts are shared.

    Raises:
        ConfigError: The model is not of this package.
    """
    if hasattr(model, "detect"):
        return model
    parts = getattr(model, "proposal_generator", None), getattr(model, "roi_heads", None)
    if not isinstance(model, GeneralizedRCNN) or not (
        isinstance(parts[0], FCOSProposalGenerator) and isinstance(parts[1], CenterROIHeads)
    ):
        raise ConfigError(
            f"models of the class {type(model).__name__} without the parts of CenterMask cannot be exported: for those "
            "of Detectron2, use its tools/deploy/export_model.py"
        )
    made = CenterMask(
        backbone=model.backbone,
        proposal_generator=model.proposal_generator,
        roi_heads=model.roi_heads,
        pixel_mean=model.pixel_mean.flatten().tolist(),
        pixel_std=model.pixel_std.flatten().tolist(),
        input_format=model.input_format,
    )
    return made.to(model.pixel_mean.device).train(model.training)


class DetectionLimits(NamedTuple):
    """Which detections a model returns.

    Attributes:
        score_thresh: Class probability that they exceed.
        max_detections: Their greatest number; negative for no limit.
        least_score: Score that they have at least, which NMS may have lowered.
    """

    score_thresh: float
    max_detections: int
    least_score: float


def detection_limits(model: Any) -> DetectionLimits:
    """Return the limits of a model that :func:`instance_part` returned."""
    if isinstance(model, CenterMask):
        limits = model.proposal_generator.test_limits
        return DetectionLimits(limits.score_thresh, limits.post_nms_topk, limits.score_thresh)
    nms, least = getattr(model, "test_nms", None), model.test_score_thresh
    if isinstance(nms, InstanceNMS):  # not FCOS's, which is of boxes
        least = nms.least_score(least)
    return DetectionLimits(model.test_score_thresh, model.test_max_detections, least)


def detect_for_export(model: Any, predictions: Any, image_sizes: Tensor, max_detections: int) -> Detections:
    """Return the result of a model's ``detect`` with greedy NMS as one operator, which runtimes have, too.

    Args:
        model: A model that :func:`instance_part` returned.
        predictions: Result of its ``predict``.
        image_sizes: (N, 2) int64, height and width of each image before padding.
        max_detections: Number K of slots per image.
    """
    if not isinstance(model, CenterMask | FCOS):
        found: Detections = model.detect(predictions, image_sizes, max_detections)
        return found
    greedy = greedy_nms_as_operator(model.proposal_generator.num_classes)
    return model.detect(predictions, image_sizes, max_detections, greedy)
