"""NMS for ``Instances``: rules with one signature, in a registry, so that any rule works in any system.

A rule is a function of :class:`NMSCandidates` and :class:`NMSOptions`; ``nms_rules.py`` has five. To add your own,
register it before the model is built and name it in the config (``MODEL.<SYSTEM>.NMS.NAME``)::

    @register_instance_nms("TopOne", inputs=("pred_boxes",))
    def top_one(candidates: NMSCandidates, options: NMSOptions) -> Kept:
        best = candidates.scores.argmax()[None]
        return Kept(best, candidates.scores[best])
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NamedTuple

from detectron2.config import CfgNode
from detectron2.structures import Instances
from torch import Tensor

from ..ops.nms import MATRIX_NMS_KERNELS
from ..utils.errors import ConfigError
from .option_checks import check_at_least, check_choice


@dataclass(frozen=True)
class NMSOptions:
    """The numbers of all rules (``MODEL.<SYSTEM>.NMS``); each rule reads those that it needs.

    Attributes:
        iou_thresh: Overlaps strictly above it suppress; all rules but MatrixNMS.
        kernel: "gaussian" or "linear"; MatrixNMS.
        sigma: Factor in the exponent of the Gaussian; MatrixNMS.
        score_thresh: Minimum decayed score of MatrixNMS, inclusive; minimum class score of TraditionalNMS, exclusive.
        topk: Number of instances per class that compete; FastNMS.
        class_score_thresh: Minimum score in the class itself, exclusive; FastNMS.
        class_agnostic: Whether instances of different classes compete.
    """

    iou_thresh: float = 0.5
    kernel: str = "gaussian"
    sigma: float = 2.0
    score_thresh: float = 0.05
    topk: int = 200
    class_score_thresh: float = 0.0
    class_agnostic: bool = False

    def __post_init__(self) -> None:
        check_at_least("NMS.TOPK", self.topk, 1)
        check_choice("NMS.KERNEL", self.kernel, MATRIX_NMS_KERNELS)

    @classmethod
    def from_node(cls, node: CfgNode) -> NMSOptions:
        """Return the options of a config node (``MODEL.<SYSTEM>.NMS``)."""
        return cls(
            iou_thresh=node.IOU_THRESH,
            kernel=node.KERNEL,
            sigma=node.SIGMA,
            score_thresh=node.SCORE_THRESH,
            topk=node.TOPK,
            class_score_thresh=node.CLASS_SCORE_THRESH,
            class_agnostic=node.CLASS_AGNOSTIC,
        )


class NMSCandidates(NamedTuple):
    """The candidates of one image, in any order; at least one.

    Attributes:
        shapes: What overlaps are measured on: masks (M, h, w) bool or boxes (M, 4) float.
        scores: (M,) float.
        classes: (M,) int64; None if all instances compete.
        class_scores: (M, K) float, the score of every class, for per-class rules; None if there are none.
    """

    shapes: Tensor
    scores: Tensor
    classes: Tensor | None
    class_scores: Tensor | None


class Kept(NamedTuple):
    """What a rule keeps, best first.

    Attributes:
        rows: (P,) int64, rows of the candidates; a per-class rule may keep a row several times.
        scores: (P,) float.
        classes: (P,) int64; None for the candidates' own classes.
    """

    rows: Tensor
    scores: Tensor
    classes: Tensor | None = None


NMSFunction = Callable[[NMSCandidates, NMSOptions], Kept]
# The same in fixed shapes, for a batch: all tensors of the candidates and of the result have a leading dimension N, a
# score of 0 marks an empty row, also in the result, and the last argument is the number P of rows per image to return.
FixedNMSFunction = Callable[[NMSCandidates, NMSOptions, int], Kept]


class NMSRule(NamedTuple):
    """An entry of :data:`INSTANCE_NMS_REGISTRY`.

    Attributes:
        function: The rule itself.
        inputs: Fields of ``Instances`` that it can measure overlaps on, the preferred one first: ``pred_masks`` (bool,
            (M, h, w), at any resolution), ``pred_boxes`` (``Boxes``).
        per_class: Whether it evaluates each instance for every class, by its ``class_scores``, if it has them.
        fixed: The rule in fixed shapes, without reads on the host, for GPUs and exported files; None if it has none.
        decays: Whether it lowers scores, and keeps the instances from ``score_thresh`` of its options on.
    """

    function: NMSFunction
    inputs: tuple[str, ...]
    per_class: bool = False
    fixed: FixedNMSFunction | None = None
    decays: bool = False


INSTANCE_NMS_REGISTRY: dict[str, NMSRule] = {}


def register_instance_nms(
    name: str,
    *,
    inputs: tuple[str, ...],
    per_class: bool = False,
    fixed: FixedNMSFunction | None = None,
    decays: bool = False,
) -> Callable[[NMSFunction], NMSFunction]:
    """Register the decorated function as the rule that ``NMS.NAME`` calls ``name``; see :class:`NMSRule`.

    Raises:
        ValueError: The name is taken.
    """

    def register(function: NMSFunction) -> NMSFunction:
        if name in INSTANCE_NMS_REGISTRY:
            raise ValueError(f"an NMS rule named {name} is already registered")
        INSTANCE_NMS_REGISTRY[name] = NMSRule(function, inputs, per_class, fixed, decays)
        return function

    return register


@dataclass(frozen=True)
class InstanceNMS:
    """A rule with its options: a function from the ``Instances`` of one image to those that are kept.

    Attributes:
        name: Key of :data:`INSTANCE_NMS_REGISTRY`.
        options: Numbers of the rule.
    """

    name: str
    options: NMSOptions = NMSOptions()

    @property
    def inputs(self) -> tuple[str, ...]:
        """Fields that the rule can measure overlaps on, the preferred one first."""
        return _find_rule(self.name).inputs

    @property
    def per_class(self) -> bool:
        """Whether the rule evaluates each instance for every class instead of its best one."""
        return _find_rule(self.name).per_class and not self.options.class_agnostic

    @property
    def has_fixed_shape(self) -> bool:
        """Whether the rule can be computed in fixed shapes."""
        return _find_rule(self.name).fixed is not None

    def least_score(self, score_thresh: float) -> float:
        """Return the lowest score of what is kept, if the scores of candidates exceed ``score_thresh``."""
        return min(score_thresh, self.options.score_thresh) if _find_rule(self.name).decays else score_thresh

    def fixed(self, candidates: NMSCandidates, max_kept: int) -> Kept:
        """Return what the rule keeps of each image of a batch, best first, in fixed shapes; can be exported.

        Args:
            candidates: With a leading dimension N each; rows whose score is 0 are empty. ``classes`` and
                ``class_scores`` are left out here where the options say so.
            max_kept: Number P of rows to return; scores of 0 where fewer are kept.

        Raises:
            ConfigError: The rule has no fixed shape.
        """
        function = _find_rule(self.name).fixed
        if function is None:
            fixed = [name for name, rule in INSTANCE_NMS_REGISTRY.items() if rule.fixed is not None]
            raise ConfigError(f"NMS.NAME {self.name} has no fixed shape: to export, choose one of {', '.join(fixed)}")
        if self.options.class_agnostic:
            candidates = candidates._replace(classes=None)
        if not self.per_class:
            candidates = candidates._replace(class_scores=None)
        return function(candidates, self.options, max_kept)

    def __call__(self, instances: Instances) -> Instances:
        """Return the instances that are kept, best first, with their new scores and all other fields.

        Sorting is stable: of equal scores the earlier instance is the better one. A per-class rule can keep an instance
        for several classes, once with each class and its score; the result of such a rule has no ``class_scores``.

        Args:
            instances: With ``scores``, ``pred_classes`` and one of :attr:`inputs`; for per-class rules also
                ``class_scores`` ((M, K) float), without which each instance only competes in its own class.

        Raises:
            ValueError: A field that the rule needs is missing.
        """
        rule = _find_rule(self.name)
        field = next((name for name in rule.inputs if instances.has(name)), None)
        missing = [name for name in ("scores", "pred_classes") if not instances.has(name)]
        if field is None:
            missing.append(" or ".join(rule.inputs))
        if missing or field is None:
            raise ValueError(f"{self.name} needs instances with {' and '.join(missing)}, which these lack")
        class_scores = None
        if rule.per_class and instances.has("class_scores"):
            class_scores = instances.class_scores if self.per_class else None
            fields = {name: value for name, value in instances.get_fields().items() if name != "class_scores"}
            instances = Instances(instances.image_size, **fields)
        if len(instances) == 0:
            return instances
        shapes = instances.get(field)
        classes = None if self.options.class_agnostic else instances.pred_classes
        candidates = NMSCandidates(getattr(shapes, "tensor", shapes), instances.scores, classes, class_scores)
        kept = rule.function(candidates, self.options)
        result = instances[kept.rows]
        result.scores = kept.scores
        if kept.classes is not None:
            result.pred_classes = kept.classes
        return result


def build_instance_nms(node: CfgNode, fields: Collection[str]) -> InstanceNMS:
    """Return the NMS that a config node (``MODEL.<SYSTEM>.NMS``) asks for.

    Args:
        node: Config node.
        fields: Those of :attr:`InstanceNMS.inputs` that the system can provide.

    Raises:
        ConfigError: The rule or kernel is unknown, or the rule needs another field.
    """
    rule = _find_rule(node.NAME)
    if not set(rule.inputs) & set(fields):
        usable = [name for name, other in INSTANCE_NMS_REGISTRY.items() if set(other.inputs) & set(fields)]
        raise ConfigError(
            f"NMS.NAME {node.NAME} needs {' or '.join(rule.inputs)}, but this system has only {' and '.join(fields)} "
            f"at that point: choose one of {', '.join(usable)}"
        )
    return InstanceNMS(node.NAME, NMSOptions.from_node(node))


def _find_rule(name: str) -> NMSRule:
    """Return the rule of this name; raise ConfigError if there is none."""
    check_choice("NMS.NAME", name, INSTANCE_NMS_REGISTRY)
    return INSTANCE_NMS_REGISTRY[name]
