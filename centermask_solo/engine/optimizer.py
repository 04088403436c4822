"""The optimizer of a config: Detectron2's, with one more kind of gradient clipping."""

from __future__ import annotations

from typing import Any

import detectron2.solver
from detectron2.config import CfgNode
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

CLIP_TYPES = ("value", "norm", "full_model")


def build_optimizer(cfg: CfgNode, model: nn.Module) -> Optimizer:
    """Detectron2's optimizer; ``SOLVER.CLIP_GRADIENTS.CLIP_TYPE`` may also be "full_model".

    "norm" and "value", Detectron2's own kinds, clip each parameter's gradient by itself; "full_model" scales all
    gradients by one number, so that their norm together is at most ``CLIP_VALUE`` and their direction stays.

    Raises:
        ValueError: an unknown kind of clipping.
    """
    clip = cfg.SOLVER.CLIP_GRADIENTS
    if clip.ENABLED and clip.CLIP_TYPE not in CLIP_TYPES:
        raise ValueError(
            f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE must be one of {', '.join(CLIP_TYPES)}, not {clip.CLIP_TYPE!r}"
        )
    if not clip.ENABLED or clip.CLIP_TYPE != "full_model":
        return detectron2.solver.build_optimizer(cfg, model)
    plain = cfg.clone()
    plain.defrost()
    plain.SOLVER.CLIP_GRADIENTS.ENABLED = False
    optimizer = detectron2.solver.build_optimizer(plain, model)

    def clip_all(optimizer: Optimizer, args: Any, kwargs: Any) -> None:  # mixed precision has unscaled them by then
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        clip_grad_norm_(parameters, clip.CLIP_VALUE, clip.NORM_TYPE)

    optimizer.register_step_pre_hook(clip_all)
    return optimizer
