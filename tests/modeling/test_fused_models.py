"""Fused models of the zoo compute what they computed before, in float32."""

from typing import Any

import pytest
import torch
from detectron2.modeling import build_model
from torch import Tensor, nn
from torch.utils._pytree import SequenceKey, tree_flatten_with_path

from centermask_solo.model_zoo import get_config
from centermask_solo.model_zoo.signatures import load_signatures
from centermask_solo.modeling.fusion import fuse_norms
from centermask_solo.modeling.instance_part import instance_part
from tests.modeling.test_fusion import norms_of, shake_norms

OTHERS = ("GeneralizedRCNN", "RCNN", "RetinaNet")  # systems of Detectron2
SIDE = 64  # pixels
NUM_GRIDS = [8, 8, 6, 4, 4]  # of SOLO and SOLOv2: fewer cells, the same layers


def networks() -> dict[str, list[str]]:
    """Return a config of each network of this package's systems, with the others that have the same one."""
    groups: dict[Any, list[str]] = {}
    for x in load_signatures():
        if x.system not in OTHERS and not x.config.startswith("baselines/"):
            groups.setdefault((x.system, x.weights, x.prediction), []).append(x.config)
    return {first: others for first, *others in groups.values()}


def build(config: str) -> nn.Module:
    """Return a model with random weights, in evaluation mode."""
    cfg = get_config(config)
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", ""
    cfg.MODEL.SOLO.NUM_GRIDS = cfg.MODEL.SOLOV2.NUM_GRIDS = NUM_GRIDS
    return build_model(cfg).eval()


def shake(model: nn.Module, config: str) -> int:
    """Give every norm random statistics and parameters; return their number.

    YOLACT takes its features as they are, which in a random residual network grow to 1e5, and so saturates the tanh of
    its coefficients: there, norms halve.
    """
    count = shake_norms(model)
    if "yolact" in config:
        for norm in norms_of(model):
            norm.weight.data.mul_(0.5)
    return count


def outputs_of(model: Any, images: Tensor) -> dict[str, Tensor]:
    """Return what the networks predict by name; values of all levels of a pyramid are one output."""
    outputs: dict[str, list[Tensor]] = {}
    for path, value in tree_flatten_with_path(model.predict(images))[0]:
        if isinstance(value, Tensor):
            name = "".join(str(key) for key in path if not isinstance(key, SequenceKey))
            outputs.setdefault(name, []).append(value.flatten())
    return {name: torch.cat(values) for name, values in outputs.items()}


NETWORKS = networks()


@pytest.mark.slow
@pytest.mark.parametrize("config", NETWORKS)
@torch.no_grad()
def test_networks_of_every_fused_model_compute_the_same(config):
    """Within 1e-5 of the spread of each output, from its least to its greatest value.

    The differences, of up to 3.3e-6 of it, are 2.4e-5 of the standard deviation.
    """
    if config.startswith("timm/"):
        pytest.importorskip("timm")
    model = build(config)
    count = shake(model, config)
    part, images, ran = instance_part(model), torch.randn(1, 3, SIDE, SIDE), set()
    handles = [norm.register_forward_hook(lambda norm, *_: ran.add(norm)) for norm in norms_of(model)]
    expected = outputs_of(part, images)
    assert len(ran) == count  # each is part of the networks
    for handle in handles:
        handle.remove()
    assert fuse_norms(model) == count
    assert not norms_of(model)
    found = outputs_of(part, images)
    assert found.keys() == expected.keys()
    errors = {name: (found[name] - y).abs().max() / (y.max() - y.min()) for name, y in expected.items()}
    assert max(errors.values()) < 1e-5, errors
