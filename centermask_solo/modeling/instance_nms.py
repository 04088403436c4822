"""NMS plug-ins with one contract, so that any rule can be tried in any system from its config.

A plug-in takes the ``Instances`` of one image and returns those that stay, best first, possibly with new scores; all
other fields ride along. To add one, subclass :class:`InstanceNMS` and name it in ``INSTANCE_NMS``.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import ClassVar

import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances
from torch import Tensor
from torchvision.ops import box_iou

from ..ops.masks import mask_iou
from ..ops.nms import MATRIX_NMS_KERNELS, fast_nms, greedy_box_nms, greedy_nms, matrix_nms


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

    @property
    def judges_each_class(self) -> bool:
        """Whether the rule reads the ``class_scores`` of instances that have them; see :class:`PerClassNMS`."""
        return False

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


class GreedyNMS(InstanceNMS):
    """The base of greedy rules: dropped is what a kept better instance overlaps by an IoU above ``iou_thresh``."""

    def __init__(self, *, iou_thresh: float, class_agnostic: bool = False) -> None:
        super().__init__(class_agnostic=class_agnostic)
        self.iou_thresh = iou_thresh

    @classmethod
    def from_node(cls, node: CfgNode) -> GreedyNMS:
        """The rule with ``IOU_THRESH`` and ``CLASS_AGNOSTIC``."""
        return cls(iou_thresh=node.IOU_THRESH, class_agnostic=node.CLASS_AGNOSTIC)


class BatchedNMS(GreedyNMS):
    """Greedy NMS of boxes: dropped where a kept better one overlaps by an IoU above ``iou_thresh``.

    Differs: Detectron2's ``batched_nms`` parts the classes by adding offsets in float32 for few boxes, and by a loop
    for many, and lets boxes with negative coordinates reach into the class before. Here boxes are first shifted to be
    non-negative and the offsets are added in float64, so that the result depends neither on their number nor on the
    device.
    """

    inputs = ("pred_boxes",)

    def apply(self, field: str, shapes: Tensor, classes: Tensor | None, scores: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`InstanceNMS.apply`."""
        rows = greedy_box_nms(shapes, classes, scores, self.iou_thresh)
        return rows, scores[rows]


class MaskNMS(GreedyNMS):
    """Greedy NMS of masks: dropped where a kept better one overlaps by an IoU above ``iou_thresh``, or both are empty.

    Source: SOLO's published code, ``NMS_TYPE "mask"``.
    """

    inputs = ("pred_masks",)

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


class PerClassNMS(InstanceNMS):
    """The base of rules that judge a box for every class on its own, with that class's score.

    Where the instances have ``class_scores`` ((M, K) float, the score of every class), an instance can be kept for
    several classes, once with each class and its score, and what is returned has no ``class_scores`` any more. Without
    them, or with ``class_agnostic``, each instance takes part once, with its own class and score.
    """

    inputs = ("pred_boxes",)

    @property
    def judges_each_class(self) -> bool:
        """See :meth:`InstanceNMS.judges_each_class`."""
        return not self.class_agnostic

    def apply_to_pairs(self, boxes: Tensor, class_scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The (box, class) pairs that stay, best first: rows, columns, both (P,) int64, and scores (P,) float.

        Args:
            boxes: (M, 4) float; at least one.
            class_scores: (M, columns) float, one column a class, or one for all; 0 where a box takes no part.
        """
        raise NotImplementedError

    def apply(self, field: str, shapes: Tensor, classes: Tensor | None, scores: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`InstanceNMS.apply`."""
        if classes is None:
            class_scores = scores[:, None]
        else:
            class_scores = scores.new_zeros(len(scores), int(classes.max()) + 1).scatter_(
                1, classes[:, None], scores[:, None]
            )
        rows, _, scores = self.apply_to_pairs(shapes, class_scores)
        return rows, scores

    def __call__(self, instances: Instances) -> Instances:
        """See :meth:`InstanceNMS.__call__`."""
        if not instances.has("class_scores"):
            return super().__call__(instances)
        fields = {name: value for name, value in instances.get_fields().items() if name != "class_scores"}
        others = Instances(instances.image_size, **fields)
        if not self.judges_each_class or len(instances) == 0:
            return super().__call__(others)
        rows, classes, scores = self.apply_to_pairs(instances.pred_boxes.tensor, instances.class_scores)
        kept = others[rows]
        kept.pred_classes, kept.scores = classes, scores
        return kept


class FastNMS(PerClassNMS):
    """Fast NMS: dropped where any better one overlaps by an IoU above ``iou_thresh``, even one that is dropped itself.

    With ``class_agnostic`` this is YOLACT's cross-class form. Source: YOLACT (arXiv 1904.02689), section 4; see
    :func:`centermask_solo.ops.nms.fast_nms`.
    """

    def __init__(
        self, *, iou_thresh: float, topk: int = 200, class_score_thresh: float = 0.0, class_agnostic: bool = False
    ) -> None:
        super().__init__(class_agnostic=class_agnostic)
        if topk < 1:
            raise ValueError(f"NMS.TOPK must be at least 1, not {topk}.")
        self.iou_thresh, self.topk, self.class_score_thresh = iou_thresh, topk, class_score_thresh

    @classmethod
    def from_node(cls, node: CfgNode) -> FastNMS:
        """The rule with ``IOU_THRESH``, ``TOPK``, ``CLASS_SCORE_THRESH`` and ``CLASS_AGNOSTIC``."""
        return cls(
            iou_thresh=node.IOU_THRESH,
            topk=node.TOPK,
            class_score_thresh=node.CLASS_SCORE_THRESH,
            class_agnostic=node.CLASS_AGNOSTIC,
        )

    def apply_to_pairs(self, boxes: Tensor, class_scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See :meth:`PerClassNMS.apply_to_pairs`."""
        return fast_nms(boxes, class_scores, self.iou_thresh, self.topk, self.class_score_thresh)


class TraditionalNMS(PerClassNMS):
    """Greedy NMS of boxes with YOLACT's numbers: among scores above ``score_thresh``, dropped at ``iou_thresh`` too.

    A 1 is added to widths and heights. Source: YOLACT's published code, ``fast_nms=false``.
    """

    def __init__(self, *, iou_thresh: float, score_thresh: float = 0.05, class_agnostic: bool = False) -> None:
        super().__init__(class_agnostic=class_agnostic)
        self.iou_thresh, self.score_thresh = iou_thresh, score_thresh

    @classmethod
    def from_node(cls, node: CfgNode) -> TraditionalNMS:
        """The rule with ``IOU_THRESH``, ``SCORE_THRESH`` and ``CLASS_AGNOSTIC``."""
        return cls(iou_thresh=node.IOU_THRESH, score_thresh=node.SCORE_THRESH, class_agnostic=node.CLASS_AGNOSTIC)

    def apply_to_pairs(self, boxes: Tensor, class_scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See :meth:`PerClassNMS.apply_to_pairs`."""
        classes, rows = (class_scores > self.score_thresh).T.nonzero(as_tuple=True)  # class by class: the order of ties
        scores = class_scores[rows, classes]
        extended = boxes[rows] + boxes.new_tensor([0.0, 0.0, 1.0, 1.0])
        # At the threshold or above is strictly above the next number below it.
        kept = greedy_box_nms(extended, classes, scores, math.nextafter(self.iou_thresh, -math.inf))
        return rows[kept], classes[kept], scores[kept]


INSTANCE_NMS: dict[str, type[InstanceNMS]] = {
    rule.__name__: rule for rule in (BatchedNMS, MaskNMS, MatrixNMS, FastNMS, TraditionalNMS)
}


def build_instance_nms(node: CfgNode, fields: Collection[str]) -> InstanceNMS:
    """The plug-in that a config node (``MODEL.<system>.NMS``) asks for.

    Args:
        node: of the config.
        fields: of :attr:`InstanceNMS.inputs`, those that the system can give.

    Raises:
        ValueError: an unknown name or kernel, or a rule that needs another field.
    """
    if node.NAME not in INSTANCE_NMS:
        raise ValueError(f"NMS.NAME must be one of {', '.join(INSTANCE_NMS)}, not {node.NAME!r}.")
    rule = INSTANCE_NMS[node.NAME]
    if not set(rule.inputs) & set(fields):
        usable = [name for name, other in INSTANCE_NMS.items() if set(other.inputs) & set(fields)]
        raise ValueError(
            f"NMS.NAME {node.NAME} needs {' or '.join(rule.inputs)}, but this system has only {' and '.join(fields)} "
            f"at that point: choose one of {', '.join(usable)}."
        )
    return rule.from_node(node)


def _best_first(scores: Tensor) -> Tensor:
    """The order of falling scores; equal ones keep theirs."""
    return scores.argsort(descending=True, stable=True)


def _take(classes: Tensor | None, order: Tensor) -> Tensor | None:
    """``classes`` in another order, where there are any."""
    return None if classes is None else classes[order]
