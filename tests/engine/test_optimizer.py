import pytest
import torch
from detectron2.config import get_cfg
from torch import nn

from centermask_solo.engine.optimizer import build_optimizer
from centermask_solo.engine.trainer import Trainer


def clip_cfg(clip_type: str):
    cfg = get_cfg()
    cfg.SOLVER.BASE_LR = 1.0
    cfg.SOLVER.MOMENTUM = 0.0
    cfg.SOLVER.WEIGHT_DECAY = 0.0
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = clip_type
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = 1.0
    return cfg


def step(clip_type: str, gradients: list[float]) -> list[float]:
    """How far each one-number parameter moves in one step of rate 1."""
    model = nn.ParameterList([nn.Parameter(torch.zeros(1)) for _ in gradients])
    optimizer = Trainer.build_optimizer(clip_cfg(clip_type), model)
    for parameter, gradient in zip(model, gradients, strict=True):
        parameter.grad = torch.tensor([gradient])
    optimizer.step()
    return [-p.item() for p in model]


def test_full_model_keeps_the_direction():
    assert step("full_model", [3.0, -4.0]) == pytest.approx([0.6, -0.8])
    assert step("norm", [3.0, -4.0]) == pytest.approx([1.0, -1.0])


def test_small_gradients_are_left_alone():
    assert step("full_model", [0.3, -0.4]) == pytest.approx([0.3, -0.4])


def test_it_needs_enabled():
    cfg = clip_cfg("full_model")
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = False
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    optimizer = build_optimizer(cfg, model)
    model.weight.grad = torch.tensor([[7.0]])
    optimizer.step()
    assert model.weight.item() == -7.0


def test_unknown_kind_is_named():
    with pytest.raises(ValueError, match=r"CLIP_TYPE must be one of value, norm, full_model, not 'all'"):
        build_optimizer(clip_cfg("all"), nn.Linear(1, 1))
