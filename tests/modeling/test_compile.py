"""Compiled networks predict what they predict without that, for every size of the input."""

import copy
import shutil
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from benchmarks.random_weights import calibrate
from centermask_solo.modeling.engine import prepare
from tests.modeling.models import SYSTEMS, THREE_LEVELS

SIZES = ((64, 96), (64, 96), (96, 128))  # height and width of the images; the last one is compiled again
COMPILED = {"SOLOv2": 2, "CenterMask": 1, "YOLACT": 1, "YOLACT++": 1}  # graphs; YOLACT stretches its images to one size


@pytest.fixture(autouse=True)
def compiled_anew():
    """Forget what was compiled before, which counts toward a limit for each function."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compile_with(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))


def image(size: tuple[int, int], seed: int) -> Tensor:
    return 255 * torch.rand(3, *size, generator=torch.Generator().manual_seed(seed))


def model_of(system: str) -> Any:
    """A model whose class logits differ from place to place, as those of a trained one."""
    levels = {**THREE_LEVELS, "NUM_GRIDS": [10, 6, 4]} if system == "SOLOv2" else {}
    model = SYSTEMS[system].model(*(x for key, value in levels.items() for x in (f"MODEL.SOLOV2.{key}", value))).eval()
    calibrate(model, [image(SIZES[0], 0)])
    return model


def compare(system: str, check: Callable[[Tensor, Tensor], None], sizes: Any = SIZES, **options: Any) -> None:
    """Check each output of compiled networks against those that are not, prepared alike, for each of the sizes."""
    model = model_of(system)
    expected = prepare(copy.deepcopy(model), **options)
    compiled = prepare(model, compile=True, **options)
    for seed, size in enumerate(sizes):
        batch = expected.preprocess_image([{"image": image(size, seed)}]).tensor
        with torch.no_grad():
            found, wanted = (tree_leaves(x.predict(batch)) for x in (compiled, expected))
        assert any(isinstance(x, Tensor) for x in wanted)
        for a, b in zip(found, wanted, strict=True):
            if b is None:
                assert a is None
            else:
                assert a.shape == b.shape and a.dtype == b.dtype
                check(a, b)


def equal_to_rounding(a: Tensor, b: Tensor) -> None:
    assert (a - b).abs().max() <= 3e-5 * b.abs().max()


def equal_in_half_precision(a: Tensor, b: Tensor) -> None:
    assert (a.float() - b.float()).abs().max() <= 0.05 * b.float().abs().max()


@pytest.mark.slow
@pytest.mark.parametrize("system", COMPILED)
def test_traced_networks_predict_the_same(system, monkeypatch):
    """As one graph, whose operators PyTorch computes one after the other: code of C++ takes minutes to compile."""
    compile_with(monkeypatch, "aot_eager")
    torch._dynamo.utils.counters.clear()
    compare(system, equal_to_rounding, SIZES[:2] if system == "CenterMask" else SIZES)
    counters = torch._dynamo.utils.counters
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] == COMPILED[system]


def test_traced_networks_predict_the_same_in_bfloat16(monkeypatch):
    compile_with(monkeypatch, "aot_eager")
    compare("YOLACT", equal_in_half_precision, SIZES[:1], dtype="bfloat16")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a compiler of C++")
def test_compiled_networks_predict_the_same():
    """In C++, of the system that takes least time: half a minute, where the others take more than one."""
    compare("YOLACT", equal_to_rounding)
