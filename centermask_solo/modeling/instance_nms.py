"""NMS plug-ins with one contract, so that any rule can be tried in any system from its config.

A plug-in takes the ``Instances`` of one image and returns those that stay, best first, possibly with new scores; all
other fields ride along. To add one, subclass :class:`InstanceNMS` and name it in ``INSTANCE_NMS``.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances
from torch import Tensor
from torchvision.ops import box_iou, nms

from centermask_solo.ops.masks import mask_iou
from centermask_solo.ops.nms import MATRIX_NMS_KERNELS, greedy_nms, matrix_nms


class InstanceNMS:
    """The base of all rules. It needs ``scores``, ``pred_classes`` and one of the fields that ``inputs`` names.

    Sorting is stable: of equal scores the earlier instance counts as the better. Instances of different classes
    compete only where ``class_agnostic`` is set.

    Attributes:
        inputs: fields that overlaps can be measured on, the preferred one first: ``pred_masks`` (bool, (M, h, w), of
            any resolution), ``pred_boxes`` (``Boxes``).
    """

    inputs: ClassVar[tuple[str, ...]]

    def __init__(self, *, class_agnostic: bool = False) -> None:
        self.class_agnostic = class_agnostic

    @classmethod
    def from_node(cls, node: CfgNode) -> InstanceNMS:
        """The rule with the numbers of a config node (``MODEL.<system>.NMS``)."""
        raise NotImplementedError

    def apply(self, field: str, shapes: Tensor, classes: Tensor | None, scores: Tensor) -> tuple[Tensor, Tensor]:
        """The rule itself: the rows that stay, best first, (R,) int64, and their scores, (R,) float.

        Args:
            field: which of ``inputs`` was found.
            shapes: its tensor: masks (M, h, w) bool or boxes (M, 4); at least one.
            classes: (M,) int64, or None where all instances compete.
            scores: (M,) float, in no particular order.
        """
        raise NotImplementedError

    def __call__(self, instances: Instances) -> Instances:
        """The instances that stay, best first.

        Raises:
            ValueError: a field that the rule needs is missing.
        """
        field = next((name for name in self.inputs if instances.has(name)), None)
        missing = [name for name in ("scores", "pred_classes") if not instances.has(name)]
        if field is None:
            missing.append(" or ".join(self.inputs))
        if missing or field is None:
            raise ValueError(f"{type(self).__name__} needs instances with {' and '.join(missing)}, which these lack.")
        if len(instances) == 0:
            return instances
        shapes = instances.get(field)
        classes = None if self.class_agnostic else instances.pred_classes
        rows, scores = self.apply(field, getattr(shapes, "tensor", shapes), classes, instances.scores)
        kept = instances[rows]
        kept.scores = scores
        return kept


class BatchedNMS(InstanceNMS):
    """Greedy NMS of boxes: dropped where a kept better one overlaps by an IoU above ``iou_thresh``.

    Differs: Detectron2's ``batched_nms`` parts the classes by adding offsets in float32 for few boxes, and by a loop
    for many, and lets boxes with negative coordinates reach into the class before. Here boxes are first shifted to be
    non-negative and the offsets are added in float64, so that the result depends neither on their number nor on the
    device.
    """

    inputs = ("pred_boxes",)

    def __init__(self, *, iou_thresh: float, class_agnostic: bool = False) -> None:
        super().__init__(class_agnostic=class_agnostic)
        self.iou_thresh = iou_thresh

    @classmethod
    def from_node(cls, node: CfgNode) -> BatchedNMS:
        """The rule with ``IOU_THRESH`` and ``CLASS_AGNOSTIC``."""
        return cls(iou_thresh=node.IOU_THRESH, class_agnostic=node.CLASS_AGNOSTIC)

    def apply(self, field: str, shapes: Tensor, classes: Tensor | None, scores: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`InstanceNMS.apply`."""
        order = _best_first(scores)
        boxes = shapes[order].double()
        if classes is not None:
            boxes = boxes - boxes.min()
            boxes = boxes + (classes[order] * (boxes.max() + 1))[:, None]
        kept = nms(boxes, scores[order].double(), self.iou_thresh).sort().values  # the order above is the stable one
        rows = order[kept]
        return rows, scores[rows]


class MaskNMS(InstanceNMS):
    """Greedy NMS of masks: dropped where a kept better one overlaps by an IoU above ``iou_thresh``, or both are empty.

    Source: SOLO's published code, ``NMS_TYPE "mask"``.
    """

    inputs = ("pred_masks",)

    def __init__(self, *, iou_thresh: float, class_agnostic: bool = False) -> None:
        super().__init__(class_agnostic=class_agnostic)
        self.iou_thresh = iou_thresh

    @classmethod
    def from_node(cls, node: CfgNode) -> MaskNMS:
        """The rule with ``IOU_THRESH`` and ``CLASS_AGNOSTIC``."""
        return cls(iou_thresh=node.IOU_THRESH, class_agnostic=node.CLASS_AGNOSTIC)

    def apply(self, field: str, shapes: Tensor, classes: Tensor | None, scores: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`InstanceNMS.apply`."""
        order = _best_first(scores)
        ious = mask_iou(shapes)
        empty = ious.diagonal() == 0
        ious = torch.where(empty[:, None] & empty, 1.0, ious)
        keep = greedy_nms(ious[order][:, order], _take(classes, order), self.iou_thresh)
        rows = order[keep]
        return rows, scores[rows]


class MatrixNMS(InstanceNMS):
    """Matrix NMS: scores decay with the overlap; those of at least ``score_thresh`` stay. On masks, else on boxes.

    Source: SOLOv2 (arXiv 2003.10152), section 3.4; see :func:`centermask_solo.ops.nms.matrix_nms`.
    """

    inputs = ("pred_masks", "pred_boxes")

    def __init__(
        self, *, kernel: str = "gaussian", sigma: float = 2.0, score_thresh: float = 0.05, class_agnostic: bool = False
    ) -> None:
        super().__init__(class_agnostic=class_agnostic)
        if kernel not in MATRIX_NMS_KERNELS:
            raise ValueError(f"NMS.KERNEL must be one of {', '.join(MATRIX_NMS_KERNELS)}, not {kernel!r}.")
        self.kernel, self.sigma, self.score_thresh = kernel, sigma, score_thresh

    @classmethod
    def from_node(cls, node: CfgNode) -> MatrixNMS:
        """The rule with ``KERNEL``, ``SIGMA``, ``SCORE_THRESH`` and ``CLASS_AGNOSTIC``."""
        return cls(
            kernel=node.KERNEL, sigma=node.SIGMA, score_thresh=node.SCORE_THRESH, class_agnostic=node.CLASS_AGNOSTIC
        )

    def apply(self, field: str, shapes: Tensor, classes: Tensor | None, scores: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`InstanceNMS.apply`."""
        order = _best_first(scores)
        ious = mask_iou(shapes) if field == "pred_masks" else box_iou(shapes, shapes).nan_to_num(0.0)
        ious = ious[order][:, order]
        decayed = matrix_nms(ious, _take(classes, order), scores[order], self.kernel, self.sigma)
        best = _best_first(decayed)
        best = best[decayed[best] >= self.score_thresh]
        return order[best], decayed[best]


INSTANCE_NMS: dict[str, type[InstanceNMS]] = {rule.__name__: rule for rule in (BatchedNMS, MaskNMS, MatrixNMS)}


def build_instance_nms(node: CfgNode) -> InstanceNMS:
    """The plug-in that a config node (``MODEL.<system>.NMS``) asks for.

    Raises:
        ValueError: an unknown name or kernel.
    """
    if node.NAME not in INSTANCE_NMS:
        raise ValueError(f"NMS.NAME must be one of {', '.join(INSTANCE_NMS)}, not {node.NAME!r}.")
    return INSTANCE_NMS[node.NAME].from_node(node)


def _best_first(scores: Tensor) -> Tensor:
    """The order of falling scores; equal ones keep theirs."""
    return scores.argsort(descending=True, stable=True)


def _take(classes: Tensor | None, order: Tensor) -> Tensor | None:
    """``classes`` in another order, where there are any."""
    return None if classes is None else classes[order]
