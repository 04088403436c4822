from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from centermask_solo.modeling.layers import DeformConv2d
from centermask_solo.modeling.solo import HEADS
from centermask_solo.ops.grids import append_coordinates
from centermask_solo.utils.errors import ConfigError

GRIDS = [5, 4, 3]


def make(name, **options):
    torch.manual_seed(0)
    arguments = {"in_strides": [8, 16, 32], "level_strides": [8, 16, 32], "num_grids": GRIDS, "num_classes": 4}
    arguments |= {"in_channels": 8, "channels": 32, "num_convs": 2}
    return HEADS[name](**(arguments | options))


def levels(constant=False):
    rng = torch.Generator().manual_seed(0)
    return [torch.rand(2, 8, 96 // s, 128 // s, generator=rng) * (not constant) + constant for s in (8, 16, 32)]


def test_the_mask_of_a_cell_is_its_output_of_the_convolution_after_upsampling():
    head, features = make("plain"), levels()
    predictions = head(features)
    for i, level in enumerate(features):
        tower = head.mask_tower(append_coordinates(level))
        upsampled = F.interpolate(tower, scale_factor=2, mode="bilinear", align_corners=False)
        expected = head.mask_pred[i](upsampled)
        cells = torch.arange(GRIDS[i] ** 2)
        (logits,) = predictions.masks_of(1).logits(i, cells)
        torch.testing.assert_close(logits, expected[1], rtol=1e-4, atol=1e-5)
        assert predictions.map_size(i) == expected.shape[2:]


def test_a_decoupled_cell_is_its_column_and_its_row():
    predictions = make("decoupled")(levels())
    columns, rows = predictions.masks_of(0).logits(1, torch.tensor([0, 6, 15]))
    assert torch.equal(columns, predictions.column_logits[1][0, [0, 2, 3]])
    assert torch.equal(rows, predictions.row_logits[1][0, [0, 1, 3]])
    assert predictions.map_size(1) == (12, 16) == columns.shape[1:]


@pytest.mark.parametrize(("name", "both"), [("decoupled", False), ("decoupled_light", True)])
def test_columns_know_x_and_rows_know_y(name, both):
    """On the same features everywhere, the middle of a map varies only along the axes that its tower knows."""
    predictions = make(name, norm="none", num_convs=1)(levels(constant=True))
    for maps, own in ((predictions.column_logits[0], 3), (predictions.row_logits[0], 2)):
        middle = maps[:, :, 6:-6, 6:-6]
        spreads = {axis: middle.std(dim=axis).amax().item() for axis in (2, 3)}
        assert spreads[own] > 1e-5
        assert (spreads[5 - own] > 1e-5) is both


def test_classes_know_no_coordinates():
    """On the same features everywhere, all cells that no border reaches are alike."""
    predictions = make("plain", norm="none", num_convs=1, num_grids=[9, 8, 7])(levels(constant=True))
    for logits, side in zip(predictions.class_logits, (9, 8, 7), strict=True):
        assert logits.shape == (2, 4, side, side)
        middle = logits[:, :, 2:-2, 2:-2]
        torch.testing.assert_close(middle, middle[:, :, :1, :1].expand_as(middle))


@pytest.mark.parametrize("name", HEADS)
def test_initialization(name):
    head = make(name, deformable="last", modulated=False)
    bias = -math.log(0.99 / 0.01)
    outputs = {k: p for k, p in head.named_parameters() if "_pred" in k and k.endswith("bias")}
    assert len(outputs) == {"plain": 4, "decoupled": 7, "decoupled_light": 7}[name]
    assert all(torch.equal(p, torch.full_like(p, bias)) for p in outputs.values())
    towers = [m for m in head.children() if isinstance(m, torch.nn.Sequential)]
    assert len(towers) == (3 if name == "decoupled" else 2)
    for tower in towers:
        first, last = tower[0], tower[3]
        assert isinstance(last, DeformConv2d) and last.conv_offset.weight.shape[0] == 18
        assert not last.conv_offset.weight.any()
        for conv in (first, last):
            assert conv.bias is None and conv.weight.std().item() == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_grids": [4, 3]}, r"MODEL\.SOLO\.NUM_GRIDS has 2 entries, but MODEL\.SOLO\.IN_FEATURES has 3"),
        ({"level_strides": [8, 16]}, r"MODEL\.SOLO\.STRIDES has 2 entries"),
        ({"level_strides": [4, 16, 32]}, r"MODEL\.SOLO\.STRIDES must be multiples of 8, not \[4, 16, 32\]"),
        ({"num_classes": 0}, r"MODEL\.SOLO\.NUM_CLASSES must be at least 1"),
        ({"deformable": "first"}, r"MODEL\.SOLO\.DEFORM_IN_INSTANCE must be one of none, last, all"),
        ({"norm": "BN"}, r"MODEL\.SOLO\.NORM must be one of"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ConfigError, match=message):
        make("plain", **options)


@pytest.mark.parametrize(
    ("name", "coordinates"),
    [
        ("plain", {"mask_tower": 2}),
        ("decoupled", {"mask_tower_x": 1, "mask_tower_y": 1}),
        ("decoupled_light", {"mask_tower": 2}),
    ],
)
def test_coordinates_alone_start_with_larger_weights(name, coordinates):
    usual, found = make(name).state_dict(), make(name, coordinate_init=8.0).state_dict()
    for tower, count in coordinates.items():
        usual[f"{tower}.0.weight"][:, -count:] *= 8
    assert all(torch.equal(usual[key], found[key]) for key in usual)
