"""Networks are replayed as CUDA graphs only where a replay computes what they do."""

import copy
import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves

import centermask_solo
from centermask_solo.modeling import cuda_graphs, layers
from centermask_solo.modeling.backbone import resnet, vovnet_blocks
from centermask_solo.modeling.cuda_graphs import ReplayedNetworks
from centermask_solo.modeling.engine import prepare
from centermask_solo.utils.errors import ConfigError
from tests.modeling.models import SYSTEMS

PACKAGE = Path(centermask_solo.__file__).parent
SOMETHING_ELSE = "computes something else than the networks"


class Outputs(NamedTuple):
    """What networks return: a tree of tensors, of which some may be missing."""

    levels: list[Tensor]
    masks: Tensor | None
    scores: Tensor


class Networks:
    """Networks whose outputs depend on every pixel and its place, that count their runs."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, images: Tensor) -> Outputs:
        self.runs += 1
        places = torch.arange(images.numel()).view_as(images)
        return Outputs([images + 1, images * places], None, (images * places).sum(dim=(1, 2, 3)))


def inputs(width: int, seed: int = 0) -> Tensor:
    return torch.rand(1, 3, 2, width, generator=torch.Generator().manual_seed(seed))


def assert_equal(found: Outputs, expected: Outputs) -> None:
    assert isinstance(found, Outputs) and found.masks is None
    for a, b in zip(tree_leaves(found), tree_leaves(expected), strict=True):
        assert (a is b is None) or torch.equal(a, b)


class Captures:
    """Stand-ins for captures on a GPU: a replay computes the networks' outputs into the memory of the captured ones."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.replays: list[int] = []  # widths of the input
        self.wrong: set[tuple[int, int]] = set()  # width, and which of its replays change an output
        captures = self

        def capture(self: ReplayedNetworks, images: Tensor) -> cuda_graphs._Graph:
            static = images.clone()
            outputs, structure = tree_flatten(Networks()(static))

            def replay() -> None:
                for output, value in zip(outputs, tree_leaves(Networks()(static)), strict=True):
                    if output is not None:
                        output.copy_(value)
                width = static.shape[3]
                if (width, captures.replays.count(width)) in captures.wrong:
                    outputs[-1] += 1
                captures.replays.append(width)

            return cuda_graphs._Graph(SimpleNamespace(replay=replay), static, outputs, structure)

        monkeypatch.setattr(ReplayedNetworks, "_capture", capture)


def test_a_graph_that_computes_the_same_is_replayed(monkeypatch, caplog):
    captures, networks = Captures(monkeypatch), Networks()
    replayed = ReplayedNetworks(networks)
    first = replayed(inputs(4))
    assert networks.runs == 2  # compared for two inputs
    assert captures.replays == [4, 4, 4]
    second = replayed(inputs(4, seed=1))
    assert networks.runs == 2 and captures.replays == [4] * 4
    assert_equal(first, Networks()(inputs(4)))  # which the second replay has not changed
    assert_equal(second, Networks()(inputs(4, seed=1)))
    assert caplog.text == ""


@pytest.mark.parametrize("wrong", [(0, 1), (0,), (1,)], ids=["always", "first input", "second input"])
def test_a_size_whose_graph_computes_something_else_runs_without_one(monkeypatch, caplog, wrong):
    captures, networks = Captures(monkeypatch), Networks()
    captures.wrong = {(4, i) for i in wrong}
    replayed = ReplayedNetworks(networks)
    for seed in range(3):
        assert_equal(replayed(inputs(4, seed)), Networks()(inputs(4, seed)))
    assert caplog.text.count(f"for inputs of (1, 3, 2, 4) {SOMETHING_ELSE}: these run without it") == 1
    checks = 1 + min(wrong)  # up to the first difference
    assert captures.replays == [4] * checks and networks.runs == checks + 3
    for seed in range(2):  # of another size
        assert_equal(replayed(inputs(5, seed)), Networks()(inputs(5, seed)))
    assert captures.replays[checks:] == [5] * 4 and networks.runs == checks + 3 + 2
    assert caplog.text.count(SOMETHING_ELSE) == 1


def test_a_graph_that_ignores_its_input_is_found(monkeypatch, caplog):
    """Its first replay gives the right outputs, those of the capture."""

    def capture(self, images):
        return cuda_graphs._Graph(
            SimpleNamespace(replay=lambda: None), images.clone(), *tree_flatten(Networks()(images))
        )

    monkeypatch.setattr(ReplayedNetworks, "_capture", capture)
    replayed = ReplayedNetworks(Networks())
    for seed in range(2):
        assert_equal(replayed(inputs(4, seed)), Networks()(inputs(4, seed)))
    assert caplog.text.count(SOMETHING_ELSE) == 1


def test_sizes_without_a_graph_run_as_they_are(monkeypatch, caplog):
    """Where a capture fails, and beyond the number of graphs, none of which is given up for another size."""
    captured = []

    def capture(self, images):
        captured.append(images.shape[3])
        if images.shape[3] == 2:
            raise RuntimeError("operation not permitted when stream is capturing")
        return cuda_graphs._Graph(SimpleNamespace(replay=lambda: None), images.clone(), [], None)

    monkeypatch.setattr(cuda_graphs, "MAX_GRAPHS", 3)
    monkeypatch.setattr(ReplayedNetworks, "_capture", capture)
    monkeypatch.setattr(cuda_graphs, "_replay", lambda graph, images: images + 1)
    networks = ReplayedNetworks(lambda images: images + 1)
    for size in (1, 2, 3, 4, 5, 4, 2, 1):
        assert networks(torch.zeros(1, 3, 1, size)).tolist() == torch.ones(1, 3, 1, size).tolist()
    assert captured == [1, 2, 3]
    assert "(1, 3, 1, 2) (operation not permitted when stream is capturing): these run without it" in caplog.text


@pytest.mark.parametrize("system", ["Decoupled SOLO Light", "YOLACT++"])
def test_deformable_convolutions_are_not_replayed(system):
    with pytest.raises(ConfigError, match="CUDA graphs replay deformable convolutions wrongly"):
        prepare(SYSTEMS[system].model(), cuda_graphs=True)


def test_all_modules_with_deformable_convolutions_are_known():
    call, modules = "deform_conv_from_logits(", (layers, resnet, vovnet_blocks)
    files = [x for x in PACKAGE.rglob("*.py") if call in x.read_text()]
    assert sorted(files) == sorted(Path(x.__file__) for x in modules)
    own = (x for module in modules for x in vars(module).values() if getattr(x, "__module__", "") == module.__name__)
    classes = [x for x in own if inspect.isclass(x) and call in inspect.getsource(x)]
    assert {x.__name__ for x in classes} == {"DeformConv2d", "DeformBottleneckBlock", "DeformUnit"}
    assert all(issubclass(x, layers.Deformable) for x in classes)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("system", ["SOLOv2", "SOLO", "CenterMask", "FCOS", "YOLACT"])
def test_replayed_networks_predict_the_same(system, dtype, caplog):
    """A second and a third input of the same size, and one of another."""
    model = SYSTEMS[system].model().eval().cuda()
    exact = prepare(copy.deepcopy(model), dtype=dtype)
    prepare(model, dtype=dtype, cuda_graphs=True)
    generator = torch.Generator().manual_seed(1)
    for size in [(64, 96), (64, 96), (64, 96), (128, 96)]:
        batch = exact.preprocess_image([{"image": 255 * torch.rand(3, *size, generator=generator)}]).tensor
        with torch.no_grad():
            found, expected = (tree_leaves(x.predict(batch)) for x in (model, exact))
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True) if a is not None)
    assert SOMETHING_ELSE not in caplog.text
