import pytest
import torch
import torch.nn.functional as F
from torch import nn

from centermask_solo.modeling import layers
from centermask_solo.modeling.layers import (
    DeformConv2d,
    DropBlock,
    Scale,
    conv_tower,
    deform_conv_from_logits,
    init_convs_normal_,
    offset_channels,
)
from tests.oracles import ops as oracles


@pytest.mark.parametrize("modulated", [False, True], ids=["v1", "v2"])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "groups", "deform_groups"),
    [(3, 1, 1, 1, 1, 1), (3, 2, 1, 1, 1, 2), (3, 1, 2, 2, 2, 1), (1, 1, 0, 1, 1, 1)],
)
def test_deform_conv_equals_literal(modulated, kernel, stride, padding, dilation, groups, deform_groups):
    torch.manual_seed(0)
    x = torch.randn(2, 4, 5, 6)
    weight = torch.randn(2, 4 // groups, kernel, kernel)
    out_h, out_w = F.conv2d(x, weight, None, stride, padding, dilation, groups).shape[-2:]
    kk = kernel * kernel
    logits = 2 * torch.randn(2, offset_channels(kernel, deform_groups, modulated), out_h, out_w)
    offsets = logits[:, : 2 * kk * deform_groups].reshape(2, deform_groups, kk, 2, out_h, out_w)
    masks = torch.ones(2, deform_groups, kk, out_h, out_w)
    if modulated:
        masks = logits[:, 2 * kk * deform_groups :].reshape(masks.shape).sigmoid()
    actual = deform_conv_from_logits(
        x, logits, weight, stride=stride, padding=padding, dilation=dilation, modulated=modulated
    )
    expected = oracles.deform_conv2d(
        x, offsets, masks, weight, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("modulated", "factor"), [(False, 1.0), (True, 0.5)])
def test_fresh_layer_is_the_ordinary_convolution(modulated, factor):
    torch.manual_seed(0)
    layer = DeformConv2d(4, 6, 3, stride=2, padding=1, groups=2, deform_groups=2, modulated=modulated, bias=True)
    nn.init.normal_(layer.bias)
    x = torch.randn(2, 4, 9, 7)
    expected = F.conv2d(x, factor * layer.weight, layer.bias, 2, 1, 1, 2)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("modulated", "channels"), [(False, 18), (True, 27)])
def test_deform_conv_keys(modulated, channels):
    state = DeformConv2d(5, 7, 3, padding=1, modulated=modulated, bias=False).state_dict()
    assert {k: tuple(v.shape) for k, v in state.items()} == {
        "weight": (7, 5, 3, 3),
        "conv_offset.weight": (channels, 5, 3, 3),
        "conv_offset.bias": (channels,),
    }


def test_first_channels_move_down_then_right():
    """A one-pixel (y, x) offset at every tap equals a shifted input; the pairs are (y, x), not (x, y)."""
    x = torch.arange(20.0).reshape(1, 1, 4, 5)
    logits = torch.zeros(1, 2, 4, 5)
    logits[:, 0] = 1.0
    out = deform_conv_from_logits(x, logits, torch.ones(1, 1, 1, 1), modulated=False)
    torch.testing.assert_close(out[..., :3, :], x[..., 1:, :])
    assert (out[..., 3, :] == 0).all()


def test_gradients_reach_everything():
    layer = DeformConv2d(3, 4, 3, padding=1, modulated=True, bias=True)
    nn.init.normal_(layer.conv_offset.weight, std=0.1)
    x = torch.randn(1, 3, 6, 6, requires_grad=True)
    layer(x).square().sum().backward()
    for tensor in (x, *layer.parameters()):
        assert tensor.grad is not None and tensor.grad.abs().sum() > 0


def test_empty_batch_has_zero_gradients():
    layer = DeformConv2d(3, 4, 3, padding=1, modulated=True, bias=False)
    out = layer(torch.zeros(0, 3, 6, 6))
    assert out.shape == (0, 4, 6, 6)
    out.sum().backward()
    assert all((p.grad == 0).all() for p in layer.parameters())


@pytest.mark.parametrize("modulated", [False, True])
def test_low_precision(modulated):
    """Autocast and a model cast to bfloat16 both work, and stay near float32."""
    torch.manual_seed(0)
    layer = DeformConv2d(8, 8, 3, padding=1, modulated=modulated, bias=False)
    nn.init.normal_(layer.conv_offset.weight, std=0.05)
    x = torch.randn(1, 8, 10, 10)
    expected = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        autocast = layer(x.bfloat16())
    cast = layer.bfloat16()(x.bfloat16())
    for out in (autocast, cast):
        assert out.dtype == torch.bfloat16
        torch.testing.assert_close(out.float(), expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_bad_values_pass_through(bad):
    """Torchvision's operator alone reads outside of the image, and the process dies, at an offset that is NaN."""
    torch.manual_seed(0)
    layer = DeformConv2d(2, 2, 3, padding=1, modulated=False, bias=False)
    x = torch.randn(1, 2, 9, 9)
    clean = layer(x)
    x[0, 0, 4, 4] = bad
    assert layer.conv_offset(x).isnan().any()
    out = layer(x)
    assert not out[..., 4, 4].isfinite().any()
    far = torch.ones(9, 9, dtype=torch.bool)
    far[2:7, 2:7] = False  # taps reach one pixel, and bilinear sampling one more
    torch.testing.assert_close(out[..., far], clean[..., far])


def test_tower_indices_and_deformable_choice():
    gn = conv_tower(5, 64, 2, norm="GN", bias=False, deformable="last", modulated=False)
    assert {k: tuple(v.shape) for k, v in gn.state_dict().items()} == {
        "0.weight": (64, 5, 3, 3),
        "1.weight": (64,),
        "1.bias": (64,),
        "3.weight": (64, 64, 3, 3),
        "3.conv_offset.weight": (18, 64, 3, 3),
        "3.conv_offset.bias": (18,),
        "4.weight": (64,),
        "4.bias": (64,),
    }
    assert gn[1].num_groups == 32
    plain = conv_tower(5, 6, 2, norm="none", bias=True)
    assert set(plain.state_dict()) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    deformable = conv_tower(5, 6, 2, norm="none", bias=True, deformable="all")
    assert isinstance(deformable[0], DeformConv2d) and isinstance(deformable[2], DeformConv2d)
    assert deformable(torch.randn(1, 5, 4, 7)).shape == (1, 6, 4, 7)
    x = torch.randn(1, 5, 4, 7)
    assert conv_tower(5, 6, 0, norm="GN", bias=False)(x) is x


def test_tower_rejects_unknown_words():
    with pytest.raises(ValueError, match='"GN" or "none", not \'BN\''):
        conv_tower(4, 4, 1, norm="BN", bias=True)
    with pytest.raises(ValueError, match="not 'first'"):
        conv_tower(4, 4, 1, norm="none", bias=True, deformable="first")


def test_init_leaves_offsets_at_zero():
    torch.manual_seed(0)
    tower = conv_tower(32, 32, 2, norm="GN", bias=True, deformable="last")
    nn.init.ones_(tower[0].bias)
    init_convs_normal_(tower, std=0.01)
    for layer in (tower[0], tower[3]):
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert (tower[0].bias == 0).all() and (tower[1].weight == 1).all()
    assert (tower[3].conv_offset.weight == 0).all() and (tower[3].conv_offset.bias == 0).all()


def test_scale():
    scale = Scale(2.0)
    assert {k: tuple(v.shape) for k, v in scale.state_dict().items()} == {"scale": (1,)}
    torch.testing.assert_close(scale(torch.tensor([[1.0, -3.0]])), torch.tensor([[2.0, -6.0]]))


def test_deform_conv_in_channels_last():
    torch.manual_seed(0)
    layer = DeformConv2d(4, 6, 3, padding=1, modulated=True, bias=False)
    nn.init.normal_(layer.conv_offset.weight, std=0.1)
    x = torch.randn(2, 4, 7, 5)
    expected = layer(x)
    actual = layer.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kernel", [1, 3])
def test_deform_conv_trains_in_channels_last(kernel, monkeypatch):
    """torchvision gets strides of which older ones cannot write the gradients, whose order is that of the weights."""
    given, compute = [], layers.deform_conv2d
    monkeypatch.setattr(layers, "deform_conv2d", lambda x, o, w, *a, **k: given.append(w) or compute(x, o, w, *a, **k))
    torch.manual_seed(0)
    layer = DeformConv2d(4, 6, kernel, padding=kernel // 2, modulated=True, bias=False)
    nn.init.normal_(layer.conv_offset.weight, std=0.1)
    x = torch.randn(2, 4, 7, 5)
    gradients = []
    for layout in (torch.contiguous_format, torch.channels_last):
        layer.to(memory_format=layout).zero_grad()
        layer(x.to(memory_format=layout)).square().sum().backward()
        gradients.append([p.grad.clone() for p in layer.parameters()])
    assert layer.weight.stride() == (4 * kernel**2, 1, 4 * kernel, 4)
    assert kernel == 3 or {w.stride() for w in given} == {(4, 1, 1, 1)}
    assert gradients[0][0].any()
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-4)


def test_drop_block_zeroes_squares_and_keeps_the_mean():
    torch.manual_seed(0)
    layer, x = DropBlock(0.1, 3), torch.ones(64, 8, 40, 40)
    y = layer(x)
    assert (y == 0).float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert y.mean().item() == pytest.approx(1, abs=1e-4)
    zeros = (y == 0).float()
    whole_blocks = 1 - F.max_pool2d(1 - zeros, 3, stride=1)
    assert torch.equal(F.max_pool2d(F.pad(whole_blocks, (2, 2, 2, 2)), 3, stride=1), zeros)
    assert torch.equal(layer.eval()(x), x)


@pytest.mark.parametrize("side", [1, 2, 3, 4])
def test_drop_block_takes_maps_smaller_than_a_block(side):
    torch.manual_seed(0)
    y = DropBlock(0.1, 5)(torch.ones(4000, 1, side, side))
    assert (y == 0).float().mean().item() == pytest.approx(0.1, abs=0.03)
