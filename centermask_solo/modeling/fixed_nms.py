"""The NMS rules of boxes for batches of fixed shape: what :mod:`nms_rules` computes, without reads on the host."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..ops import nms
from ..ops.boxes import pairwise_iou
from ..ops.fixed_nms import FIXPOINT, GreedyNMS, suppression_matrix
from ..ops.topk import padded_topk, stable_topk
from ..utils.errors import ConfigError
from .instance_nms import InstanceNMS, NMSOptions


class Ranked(NamedTuple):
    """The candidates of each image, best first, in P slots, of which the last may be unused.

    Attributes:
        boxes: (N, P, 4) float32 x0, y0, x1, y1; zero in unused slots.
        scores: (N, P) float32, descending; zero in unused slots and positive in all others.
        classes: (N, P) int64; None if all compete.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor | None


class FixedKept(NamedTuple):
    """What NMS keeps, best first, in K slots.

    Attributes:
        rows: (N, K) int64, candidates that are kept.
        scores: (N, K) float32, their new scores, descending; zero in unused slots and positive in all others.
        exact: (N,) bool; whether these are the K best of all that NMS in unlimited shape keeps.
    """

    rows: Tensor
    scores: Tensor
    exact: Tensor


# Returns the new scores, (N, P), zero for what is dropped, and of which images they are exact, (N,) bool.
FixedRule = Callable[[Ranked, NMSOptions, GreedyNMS], tuple[Tensor, Tensor]]


def has_fixed_shape(rule: InstanceNMS) -> bool:
    """Return whether a rule for boxes can be computed in a fixed shape."""
    return rule.name in FIXED_RULES


def fixed_nms(
    rule: InstanceNMS,
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor,
    num_kept: int,
    greedy: GreedyNMS = FIXPOINT,
    ranking: Tensor | None = None,
) -> FixedKept:
    """Return the best ``num_kept`` candidates that a rule keeps in each image, without reading from the device.

    Only the best ``greedy.max_candidates`` compete. The rest cannot change what the better ones become; ``exact`` is
    False where one of them might still be among the result.

    Args:
        rule: Rule and options.
        boxes: (N, M, 4) float32 x0, y0, x1, y1, in any order; finite.
        scores: (N, M) float32, positive; zero for what is no candidate.
        classes: (N, M) int64.
        num_kept: K.
        greedy: How greedy NMS is computed.
        ranking: (N, M) float32, values that decide which of equal scores is the better one, if they rank all candidates
            as the scores do otherwise. Among equal ones, it is the first.

    Raises:
        ConfigError: The rule cannot be computed in a fixed shape.
    """
    if not has_fixed_shape(rule):
        raise ConfigError(
            f"NMS.NAME {rule.name} of boxes has no fixed shape: to export, choose one of {', '.join(FIXED_RULES)}"
        )
    top, order = stable_topk(scores if ranking is None else ranking, min(greedy.max_candidates, scores.shape[1]))
    ranked_scores = scores.gather(1, order)
    ranked_boxes = torch.where(top[:, :, None] > 0, boxes.gather(1, order[:, :, None].expand(-1, -1, 4)), 0.0)
    ranked = Ranked(ranked_boxes, ranked_scores, None if rule.options.class_agnostic else classes.gather(1, order))
    new_scores, converged = FIXED_RULES[rule.name](ranked, rule.options, greedy)
    kept_scores, places = padded_topk(new_scores, num_kept)
    # What does not compete would have at most the score of the last that does.
    complete = ((scores > 0).sum(dim=1) <= top.shape[1]) | (kept_scores[:, -1] >= ranked_scores[:, -1])
    return FixedKept(order.gather(1, places), kept_scores, converged & complete)


def _batched_nms(ranked: Ranked, options: NMSOptions, greedy: GreedyNMS) -> tuple[Tensor, Tensor]:
    keep, exact = greedy.function(ranked.boxes, ranked.classes, ranked.scores, options.iou_thresh)
    return torch.where(keep, ranked.scores, 0.0), exact


def _traditional_nms(ranked: Ranked, options: NMSOptions, greedy: GreedyNMS) -> tuple[Tensor, Tensor]:
    scores = torch.where(ranked.scores > options.score_thresh, ranked.scores, 0.0)
    extended = torch.cat([ranked.boxes[..., :2], ranked.boxes[..., 2:] + 1], dim=2)
    keep, exact = greedy.function(extended, ranked.classes, scores, math.nextafter(options.iou_thresh, -math.inf))
    return torch.where(keep, scores, 0.0), exact


def _fast_nms(ranked: Ranked, options: NMSOptions, greedy: GreedyNMS) -> tuple[Tensor, Tensor]:
    del greedy
    suppressed = suppression_matrix(ranked.boxes, ranked.classes, options.iou_thresh).any(dim=2)
    rank = _num_better(ranked.scores, ranked.classes)
    keep = ~suppressed & (rank < options.topk) & (ranked.scores > options.class_score_thresh)
    return torch.where(keep, ranked.scores, 0.0), _all_exact(ranked)


def _matrix_nms(ranked: Ranked, options: NMSOptions, greedy: GreedyNMS) -> tuple[Tensor, Tensor]:
    del greedy
    ious = pairwise_iou(ranked.boxes, ranked.boxes)
    decayed = nms.matrix_nms(ious, ranked.classes, ranked.scores, options.kernel, options.sigma)
    return torch.where(decayed >= options.score_thresh, decayed, 0.0), _all_exact(ranked)


def _num_better(scores: Tensor, classes: Tensor | None) -> Tensor:
    """Return how many better candidates of its class each one has, (N, P) int64, for candidates from best to worst."""
    if classes is None:
        return torch.arange(scores.shape[1], device=scores.device).expand_as(scores)
    return (classes[:, :, None] == classes[:, None]).tril(-1).sum(dim=2)


def _all_exact(ranked: Ranked) -> Tensor:
    return torch.ones_like(ranked.scores[:, 0], dtype=torch.bool)


FIXED_RULES: dict[str, FixedRule] = {
    "BatchedNMS": _batched_nms,
    "TraditionalNMS": _traditional_nms,
    "FastNMS": _fast_nms,
    "MatrixNMS": _matrix_nms,
}
