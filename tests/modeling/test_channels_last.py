"""Norms in the channels-last format on a CPU, compared with float64, and what a model makes of them."""

import copy
import pickle

import pytest
import torch
from detectron2.engine import DefaultPredictor
from detectron2.layers import NaiveSyncBatchNorm
from detectron2.modeling import build_model
from torch import nn

from centermask_solo.modeling.channels_last import BatchNorm2d, GroupNorm, to_channels_last, to_contiguous, use_onednn
from centermask_solo.modeling.engine import prepare
from centermask_solo.training.trainer import Trainer
from tests.modeling.inputs import input_of, instances_of, rectangles
from tests.modeling.models import SYSTEMS, losses_and_gradients

SHAPE = (4, 32, 100, 138)  # PyTorch's sums over so many pixels are wrong by 1e-5 and more


def results_of(norm, x, grad):
    """Output, gradients, and running mean and variance."""
    norm = copy.deepcopy(norm).to(x.dtype)
    x = x.clone().requires_grad_()
    y = norm(x)
    gradients = torch.autograd.grad(y, [x, norm.weight, norm.bias], grad.to(x.dtype))
    return [y.detach(), *gradients, *(b for name, b in norm.named_buffers() if name.startswith("running"))]


@pytest.mark.parametrize("mean", [0.0, 100.0])
@pytest.mark.parametrize("norm", [nn.BatchNorm2d(32), nn.BatchNorm2d(32, momentum=None), nn.GroupNorm(8, 32)], ids=str)
def test_a_norm_equals_float64_to_rounding(norm, mean):
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2, 32))
        norm.bias.copy_(torch.linspace(-1, 1, 32))
    spread = torch.linspace(0.5, 2, 32).view(1, -1, 1, 1)
    x, grad = (torch.randn(SHAPE).contiguous(memory_format=torch.channels_last) for _ in range(2))
    x = x * spread + mean
    exact = results_of(norm, x.double().contiguous(), grad.contiguous())
    found = results_of(to_channels_last(norm), x, grad)
    assert found[0].is_contiguous(memory_format=torch.channels_last)
    # Sums of 55,200 values; the mean is stored with 24 bits.
    tolerances = [4e-6, 4e-6, 2e-3, 2e-3, 1e-6 + 1e-7 * mean, 1e-6]
    for a, b, tolerance in zip(found, exact, tolerances[: len(exact)], strict=True):
        torch.testing.assert_close(a.double(), b, rtol=0, atol=tolerance)


def test_where_pytorch_is_exact_its_own_kernels_run():
    """Contiguous feature maps; and batch norm in evaluation mode, which has no statistics to compute."""
    plain = nn.BatchNorm2d(32)
    own, x = to_channels_last(copy.deepcopy(plain)), torch.randn(2, 32, 9, 7)
    assert torch.equal(own(x), plain(x))
    assert torch.equal(own.running_var, plain.running_var)
    x = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(own.eval()(x), plain.eval()(x))
    empty = x[:0].contiguous(memory_format=torch.channels_last)
    assert to_channels_last(nn.GroupNorm(8, 32))(empty).shape == (0, 32, 9, 7)


def test_half_precision_keeps_its_type():
    norm = to_channels_last(nn.BatchNorm2d(32))
    x = torch.randn(2, 32, 9, 7).contiguous(memory_format=torch.channels_last)
    expected = norm(x)
    half = x.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = norm(half)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=0.02)
    found.sum().backward()
    assert half.grad.dtype == torch.bfloat16 and norm.weight.grad.dtype == torch.float32


def test_names_and_values_stay():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.SyncBatchNorm(8), NaiveSyncBatchNorm(8))
    model.append(nn.GroupNorm(2, 8))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    after = to_channels_last(model).state_dict()
    assert list(after) == list(before) and all(torch.equal(after[name], before[name]) for name in before)
    assert [type(m) for m in model[1:]] == [BatchNorm2d, BatchNorm2d, BatchNorm2d, GroupNorm]
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_the_norms_of_several_processes_stay(monkeypatch):
    monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: 2)
    model = to_channels_last(nn.Sequential(nn.SyncBatchNorm(8), NaiveSyncBatchNorm(8), nn.BatchNorm2d(8)))
    assert [type(m) for m in model] == [nn.SyncBatchNorm, NaiveSyncBatchNorm, BatchNorm2d]


def test_the_trainer_leaves_no_norm_of_pytorch_in_any_system(system):
    cfg = system.cfg("MODEL.RESNETS.NORM", "BN", "MODEL.MOBILENETV2.NORM", "BN")
    norms = [m for m in Trainer.build_model(cfg).modules() if isinstance(m, nn.BatchNorm2d | nn.GroupNorm)]
    assert len(norms) > 15
    assert {type(m) for m in norms} <= {BatchNorm2d, GroupNorm}


def test_a_convolution_of_one_tap_computes_the_same_in_onednn():
    """Outputs and gradients to rounding; convolutions of several taps stay."""
    torch.manual_seed(0)
    plain = to_channels_last(nn.Sequential(nn.Conv2d(16, 24, 1, stride=2, padding=1), nn.Conv2d(24, 8, 3, padding=1)))
    model, x = copy.deepcopy(plain), torch.randn(2, 16, 15, 20).contiguous(memory_format=torch.channels_last)
    use_onednn(model)
    assert [m.dilation for m in model] == [(2, 2), (1, 1)]
    found, expected = (m(x) for m in (model, plain))
    torch.testing.assert_close(found, expected)
    for y in (found, expected):
        y.square().sum().backward()
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-4)


def is_channels_last(x):
    return x.is_contiguous(memory_format=torch.channels_last)


def test_a_model_of_detectron2s_predictor_has_the_layout_of_the_config(system, tmp_path):
    """Weights, feature maps, and, to rounding, the same detections as in PyTorch's own layout."""
    cfg = system.cfg("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", str(tmp_path / "weights.pth"))
    contiguous = system.model("MODEL.CHANNELS_LAST", False).eval()
    assert not any(isinstance(m, BatchNorm2d | GroupNorm) for m in contiguous.modules())
    torch.save({"model": contiguous.state_dict()}, cfg.MODEL.WEIGHTS)
    model = DefaultPredictor(cfg).model
    for same in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        weights = [p for p in same.parameters() if p.dim() == 4]
        assert weights and all(map(is_channels_last, weights))
    x = {"image": torch.randint(0, 256, (3, 64, 96), generator=torch.Generator().manual_seed(0)).float()}
    with torch.no_grad():
        features = model.backbone(model.preprocess_image([x]).tensor)
        assert all(map(is_channels_last, features.values()))
        found, expected = (m([x])[0]["instances"] for m in (model, contiguous))
    assert len(found) == len(expected)
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.pred_boxes.tensor, expected.pred_boxes.tensor, rtol=0, atol=1)


def test_the_layout_is_undone(system):
    model = system.model()
    values = {name: value.clone() for name, value in model.state_dict().items()}
    prepare(model, fuse=False, channels_last=False)
    assert all(p.is_contiguous() for p in model.parameters())
    assert not any(isinstance(m, BatchNorm2d | GroupNorm) for m in model.modules())
    assert all(torch.equal(value, values[name]) for name, value in model.state_dict().items())


def test_the_default_layout_changes_loss_and_gradient_by_rounding_only():
    """Of YOLACT++, which trains its batch norms; the first convolution's gradient has passed through all of them."""
    cfg = SYSTEMS["YOLACT++"].cfg("MODEL.RESNETS.NORM", "BN", "MODEL.BACKBONE.FREEZE_AT", 0)
    corners = [(30, 20, 130, 120), (100, 90, 240, 250), (140, 10, 230, 80)]
    inputs = [input_of(instances_of(rectangles(256, 256, *corners), [0, 1, 2]), seed) for seed in range(3)]
    torch.manual_seed(0)
    contiguous = to_contiguous(build_model(cfg)).train()
    exact, model = copy.deepcopy(contiguous).double(), to_channels_last(copy.deepcopy(contiguous))
    results = [losses_and_gradients(x, inputs) for x in (exact, contiguous, model)]
    losses, _, own_losses = ({k: v.item() for k, v in x.items()} for x, _ in results)
    stem, contiguous_stem, own_stem = (x["backbone.bottom_up.stem.conv1.weight"].double() for _, x in results)
    # Its masks are thresholded: rounding turns a pixel on or off, in PyTorch's default layout as well.
    assert own_losses.pop("loss_mask_iou") == pytest.approx(losses.pop("loss_mask_iou"), rel=1e-4)
    assert own_losses == pytest.approx(losses, rel=1e-5)
    assert sum(own_losses.values()) == pytest.approx(sum(losses.values()), rel=2e-6)
    # ReLUs and maxima of a random network turn roundings into steps: as many as in PyTorch's default layout.
    assert (own_stem - stem).norm() < 2 * (contiguous_stem - stem).norm()
