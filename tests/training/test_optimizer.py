import copy

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.engine import DefaultTrainer
from torch import nn

from centermask_solo import add_centermask_solo_config
from centermask_solo.training.optimizer import build_optimizer, check_optimizer_state
from centermask_solo.training.trainer import Trainer
from centermask_solo.utils.errors import ConfigError, WeightsError


def clip_cfg(clip_type: str):
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.SOLVER.BASE_LR = 1.0
    cfg.SOLVER.MOMENTUM = 0.0
    cfg.SOLVER.WEIGHT_DECAY = 0.0
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = clip_type
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = 1.0
    return cfg


def step(clip_type: str, gradients: list[float]) -> list[float]:
    """Return how far each single-number parameter moves in one step with learning rate 1."""
    model = nn.ParameterList([nn.Parameter(torch.zeros(1)) for _ in gradients])
    optimizer = Trainer.build_optimizer(clip_cfg(clip_type), model)
    for parameter, gradient in zip(model, gradients, strict=True):
        parameter.grad = torch.tensor([gradient])
    optimizer.step()
    return [-p.item() for p in model]


def test_full_model_keeps_the_direction():
    assert step("full_model", [3.0, -4.0]) == pytest.approx([0.6, -0.8])
    assert step("norm", [3.0, -4.0]) == pytest.approx([1.0, -1.0])


def test_small_gradients_are_unchanged():
    assert step("full_model", [0.3, -0.4]) == pytest.approx([0.3, -0.4])


def test_clipping_must_be_enabled():
    cfg = clip_cfg("full_model")
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = False
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    optimizer = build_optimizer(cfg, model)
    model.weight.grad = torch.tensor([[7.0]])
    optimizer.step()
    assert model.weight.item() == -7.0


def test_unknown_kind_of_clipping():
    with pytest.raises(ConfigError, match=r"CLIP_TYPE must be one of value, norm, full_model, not 'all'"):
        build_optimizer(clip_cfg("all"), nn.Linear(1, 1))


def test_detectron2s_own_trainer_names_the_one_to_use():
    with pytest.raises(ConfigError, match=r'CLIP_TYPE "full_model".*: use centermask_solo\.Trainer$') as error:
        DefaultTrainer.build_optimizer(clip_cfg("full_model"), nn.Linear(1, 1))
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="'all' is not a valid GradientClipType"):
        DefaultTrainer.build_optimizer(clip_cfg("all"), nn.Linear(1, 1))
    assert DefaultTrainer.build_optimizer(clip_cfg("norm"), nn.Linear(1, 1)).param_groups


@pytest.mark.parametrize("clip_type", ["full_model", "norm"])
def test_adamw_has_the_learning_rates_and_decays_of_the_config(clip_type):
    cfg = clip_cfg(clip_type)
    cfg.SOLVER.OPTIMIZER = "AdamW"
    cfg.SOLVER.BASE_LR = 0.5
    cfg.SOLVER.WEIGHT_DECAY = 0.1
    cfg.SOLVER.WEIGHT_DECAY_NORM = 0.0
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.GroupNorm(1, 1))
    nn.init.ones_(model[0].weight)
    optimizer = build_optimizer(cfg, model)
    assert isinstance(optimizer, torch.optim.AdamW)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 30.0)
    optimizer.step()
    # Adam's first step is the learning rate, whatever the gradient; decay subtracts rate x decay x weight.
    assert model[0].weight.item() == pytest.approx(1 - 0.5 * 0.1 - 0.5, abs=1e-6)
    assert model[1].weight.item() == pytest.approx(0.5, abs=1e-6)


def adamw_steps(model, optimizer, first, last):
    for i in range(first, last):
        model.weight.grad = torch.linspace(-1, 2, 12).view(3, 4) * (1 + i)
        optimizer.step()


def test_adamw_on_a_cpu_equals_pytorchs_plain_implementation_and_resumes_from_it():
    cfg = clip_cfg("norm")
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = False
    cfg.SOLVER.OPTIMIZER = "AdamW"
    plain_model, model, resumed_model = (nn.Linear(4, 3, bias=False) for _ in range(3))
    model.load_state_dict(plain_model.state_dict())
    plain = torch.optim.AdamW(plain_model.parameters(), lr=1.0, weight_decay=0.0, foreach=False)
    optimizer = build_optimizer(cfg, model)
    adamw_steps(plain_model, plain, 0, 3)
    adamw_steps(model, optimizer, 0, 3)
    assert torch.allclose(model.weight, plain_model.weight, atol=1e-6)

    resumed_model.load_state_dict(plain_model.state_dict())
    resumed = build_optimizer(cfg, resumed_model)
    resumed.load_state_dict(copy.deepcopy(plain.state_dict()))  # as from a file: without sharing tensors
    for network, its_optimizer in ((plain_model, plain), (model, optimizer), (resumed_model, resumed)):
        adamw_steps(network, its_optimizer, 3, 6)
    assert torch.allclose(model.weight, plain_model.weight, atol=1e-6)
    assert torch.allclose(resumed_model.weight, plain_model.weight, atol=1e-6)


def test_unknown_optimizer():
    cfg = clip_cfg("norm")
    cfg.SOLVER.OPTIMIZER = "Adam"
    with pytest.raises(ConfigError, match=r"SOLVER.OPTIMIZER must be one of SGD, AdamW, not 'Adam'"):
        build_optimizer(cfg, nn.Linear(1, 1))


def test_the_state_of_another_training_is_refused():
    def optimizer(width, kind=torch.optim.AdamW, layers=1):
        parameters = [torch.nn.Parameter(torch.ones(width)) for _ in range(layers)]
        built = kind(parameters, lr=0.1, **({"momentum": 0.9} if kind is torch.optim.SGD else {}))
        sum(p.sum() for p in parameters).backward()
        built.step()
        return built

    check_optimizer_state(optimizer(3), optimizer(3).state_dict())
    check_optimizer_state(optimizer(3, torch.optim.SGD), optimizer(3, torch.optim.SGD).state_dict())
    for other, message in [
        (optimizer(4), "parameters of other shapes"),
        (optimizer(3, layers=2), r"other parameters, such as with another MODEL\.BACKBONE\.FREEZE_AT"),
        (optimizer(3, layers=2), r"groups them otherwise, as with another SOLVER\.LR_FACTORS"),
        (optimizer(3, torch.optim.SGD), r"not the AdamW of SOLVER\.OPTIMIZER"),
    ]:
        with pytest.raises(WeightsError, match=message):
            check_optimizer_state(optimizer(3), other.state_dict())


def factors_cfg(optimizer, *factors):
    cfg = clip_cfg("norm")
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = False
    cfg.SOLVER.OPTIMIZER, cfg.SOLVER.LR_FACTORS = optimizer, [list(factor) for factor in factors]
    return cfg


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_rate_factors_by_name(optimizer):
    """The first pattern that matches counts; the schedule multiplies all rates."""
    cfg = factors_cfg(optimizer, ("0.weight", 0.5), ("0.*", 0.25), ("2.*", 0.0))
    cfg.SOLVER.STEPS, cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.GAMMA = (1,), 0, 0.1
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1), nn.Linear(1, 1))
    built = build_optimizer(cfg, model)
    schedule = Trainer.build_lr_scheduler(cfg, built)
    names = {id(p): name for name, p in model.named_parameters()}

    def rates():
        return {names[id(p)]: group["lr"] for group in built.param_groups for p in group["params"]}

    expected = {"0.weight": 0.5, "0.bias": 0.25, "1.weight": 1, "1.bias": 1, "2.weight": 0, "2.bias": 0}
    assert rates() == expected
    built.step()
    schedule.step()
    assert rates() == pytest.approx({name: 0.1 * rate for name, rate in expected.items()})
    model(torch.ones(1, 1)).sum().backward()
    before = {name: p.clone() for name, p in model.named_parameters()}
    built.step()
    assert torch.equal(model[2].weight, before["2.weight"]) and not torch.equal(model[1].bias, before["1.bias"])


def test_without_factors_sgd_is_detectron2s():
    cfg = clip_cfg("norm")
    cfg.SOLVER.WEIGHT_DECAY_NORM, cfg.SOLVER.BIAS_LR_FACTOR, cfg.SOLVER.MOMENTUM = 0.1, 2.0, 0.9
    cfg.SOLVER.NESTEROV = True
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.GroupNorm(1, 1))
    ours, theirs = build_optimizer(cfg, model), DefaultTrainer.build_optimizer(cfg, model)
    assert ours.state_dict() == theirs.state_dict() and ours.defaults == theirs.defaults
    assert [type(x).__mro__[1] for x in (ours, theirs)] == [torch.optim.SGD] * 2


def test_factors_without_effect_are_refused():
    with pytest.raises(
        ConfigError, match=r"LR_FACTORS: no parameter of the model matches 'backbone\.\*': .*'0\.weight'"
    ):
        build_optimizer(factors_cfg("SGD", ("0.*", 1.0), ("backbone.*", 0.1)), nn.Sequential(nn.Linear(1, 1)))
    cfg = factors_cfg("SGD", ("0.*", 0.5))
    cfg.SOLVER.BIAS_LR_FACTOR = 2.0
    with pytest.raises(ConfigError, match=r"BIAS_LR_FACTOR must be 1 with SOLVER\.LR_FACTORS"):
        build_optimizer(cfg, nn.Sequential(nn.Linear(1, 1)))
