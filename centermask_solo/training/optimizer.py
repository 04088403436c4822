"""The optimizer of a config: Detectron2's SGD, or AdamW, with one more kind of gradient clipping."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from ..modeling.batch_norms import check_pattern
from ..modeling.option_checks import check_choice
from ..utils.errors import ConfigError, WeightsError

CLIP_TYPES = ("value", "norm", "full_model")
OPTIMIZERS = ("SGD", "AdamW")
SIGNS_OF_KIND = ("momentum", "betas")  # options that only SGD or only AdamW has
FUSED_ON_CPU_SINCE = "2.4"  # of PyTorch


def build_optimizer(cfg: CfgNode, model: nn.Module) -> Optimizer:
    """Return the optimizer that ``SOLVER.OPTIMIZER`` names.

    ``SOLVER.CLIP_GRADIENTS.CLIP_TYPE`` may also be "full_model". Detectron2's own "norm" and "value" clip the gradient
    of each parameter separately; "full_model" scales all gradients by one factor, so that their total norm is at most
    ``CLIP_VALUE`` and their direction is kept.

    Raises:
        ConfigError: The optimizer or the kind of clipping is unknown.
    """
    name, clip = cfg.SOLVER.OPTIMIZER, cfg.SOLVER.CLIP_GRADIENTS
    check_choice("SOLVER.OPTIMIZER", name, OPTIMIZERS)
    if clip.ENABLED:
        check_choice("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", clip.CLIP_TYPE, CLIP_TYPES)
    clip_all = clip.ENABLED and clip.CLIP_TYPE == "full_model"
    if clip_all:
        cfg = cfg.clone()
        cfg.defrost()
        cfg.SOLVER.CLIP_GRADIENTS.ENABLED = False
    optimizer = _build_sgd(cfg, model) if name == "SGD" else _build_adamw(cfg, model)
    if clip_all:
        optimizer.register_step_pre_hook(_clip_by_total_norm(clip.CLIP_VALUE, clip.NORM_TYPE))
    return optimizer


def parameter_groups(cfg: CfgNode, model: nn.Module) -> list[dict[str, Any]]:
    """Return the trained parameters in Detectron2's groups, with ``SOLVER.LR_FACTORS`` in their learning rates.

    Raises:
        ConfigError: A pattern of ``SOLVER.LR_FACTORS`` matches no parameter of the model, or ``SOLVER.BIAS_LR_FACTOR``,
            which would take the place of the factors, is not 1.
    """
    solver, factors = cfg.SOLVER, cfg.SOLVER.LR_FACTORS
    names = [name for name, _ in model.named_parameters()]
    for pattern, _ in factors:
        check_pattern("SOLVER.LR_FACTORS", pattern, names)
    if factors and solver.BIAS_LR_FACTOR != 1:
        raise ConfigError(
            "SOLVER.BIAS_LR_FACTOR must be 1 with SOLVER.LR_FACTORS: give a pattern such as '*.bias' there"
        )

    def factor_of(name: str) -> float:
        return next((factor for pattern, factor in factors if fnmatch.fnmatchcase(name, pattern)), 1.0)

    return get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
        lr_factor_func=factor_of if factors else None,
    )


def _build_sgd(cfg: CfgNode, model: nn.Module) -> Optimizer:
    """Return Detectron2's SGD with the parameters of :func:`parameter_groups`."""
    solver, params = cfg.SOLVER, parameter_groups(cfg, model)
    sgd = maybe_add_gradient_clipping(cfg, torch.optim.SGD)
    return sgd(
        params,
        lr=solver.BASE_LR,
        momentum=solver.MOMENTUM,
        nesterov=solver.NESTEROV,
        weight_decay=solver.WEIGHT_DECAY,
        foreach=True,
    )


def _build_adamw(cfg: CfgNode, model: nn.Module) -> Optimizer:
    """Return AdamW with the learning rates and weight decays of :func:`parameter_groups`."""
    solver, params = cfg.SOLVER, parameter_groups(cfg, model)
    adamw = maybe_add_gradient_clipping(cfg, torch.optim.AdamW)
    # On a CPU, one pass over the parameters instead of several takes a third of the time. On a GPU, PyTorch chooses an
    # implementation whose gradients mixed precision unscales before the step, and so before clipping.
    on_cpu = all(p.device.type == "cpu" for p in model.parameters())
    fused = True if on_cpu and torch.__version__ >= FUSED_ON_CPU_SINCE else None
    return adamw(params, lr=solver.BASE_LR, weight_decay=solver.WEIGHT_DECAY, fused=fused)


def _clip_by_total_norm(max_norm: float, norm_type: float) -> Callable[[Optimizer, Any, Any], None]:
    def clip(optimizer: Optimizer, args: Any, kwargs: Any) -> None:  # the gradients are unscaled by then
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        clip_grad_norm_(parameters, max_norm, norm_type)

    return clip


def check_optimizer_state(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Check that a stored state belongs to this kind of optimizer and these parameters.

    PyTorch itself compares numbers of parameters only, and then steps with buffers of other shapes.

    Args:
        optimizer: The optimizer that is to continue.
        state: What ``state_dict`` of the stored one returned.

    Raises:
        WeightsError: It does not.
    """
    check_kind(optimizer, state)
    theirs, ours = state["param_groups"], optimizer.state_dict()["param_groups"]
    if [len(group["params"]) for group in theirs] != [len(group["params"]) for group in ours]:
        raise WeightsError(
            "its optimizer trains other parameters, such as with another MODEL.BACKBONE.FREEZE_AT, or groups them "
            "otherwise, as with another SOLVER.LR_FACTORS"
        )
    check_shapes(optimizer, state["state"])


def check_kind(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Raise WeightsError unless a stored state is that of an optimizer of this kind."""
    theirs, ours = state["param_groups"], optimizer.state_dict()["param_groups"]
    if [[key in group for key in SIGNS_OF_KIND] for group in theirs[:1]] != [[key in ours[0] for key in SIGNS_OF_KIND]]:
        raise WeightsError(f"its optimizer is not the {type(optimizer).__name__} of SOLVER.OPTIMIZER")


def check_shapes(optimizer: Optimizer, state: Mapping[int, Mapping[str, Any]]) -> None:
    """Raise WeightsError if a parameter has another shape than what is stored for it, by its index."""
    shapes = [p.shape for group in optimizer.param_groups for p in group["params"]]
    for index, buffers in state.items():
        if any(isinstance(x, Tensor) and x.ndim > 0 and x.shape != shapes[index] for x in buffers.values()):
            raise WeightsError("its optimizer trains parameters of other shapes")
