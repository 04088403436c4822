"""Precision of scores."""

from __future__ import annotations

import math

import torch

from centermask_solo.ops.precision import finite_scores


def test_scores_that_are_not_finite_rank_last():
    scores = torch.tensor([0.5, math.nan, math.inf, -math.inf], dtype=torch.float16)
    assert finite_scores(scores).tolist() == [0.5, 0.0, 0.0, 0.0]
    assert finite_scores(scores).dtype == torch.float32
