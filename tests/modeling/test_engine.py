"""A prepared model predicts the same, or nearly so in half precision."""

import copy
import inspect
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import centermask_solo
from centermask_solo.modeling import cuda_graphs, engine, layers
from centermask_solo.modeling.backbone import resnet, vovnet_blocks
from centermask_solo.modeling.cuda_graphs import ReplayedNetworks
from centermask_solo.modeling.engine import check_dtype, prepare, prepare_as_configured
from centermask_solo.modeling.quantization import Range
from centermask_solo.utils.errors import ConfigError
from tests.modeling.models import SYSTEMS

PACKAGE = Path(centermask_solo.__file__).parent


def image() -> dict[str, torch.Tensor]:
    return {"image": torch.randint(0, 256, (3, 64, 96), generator=torch.Generator().manual_seed(0)).float()}


def flat(outputs):
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    values = outputs.values() if isinstance(outputs, dict) else outputs or ()
    return [tensor for value in values for tensor in flat(value)]


@pytest.mark.parametrize("system", SYSTEMS)
def test_networks_run_in_bfloat16_and_the_rest_in_float32(system):
    model = SYSTEMS[system].model().eval()
    batch = model.preprocess_image([image()]).tensor
    with torch.no_grad():
        expected = flat(model.predict(batch))
        prepare(model, dtype="bfloat16")
        got = flat(model.predict(batch))
        assert torch.bfloat16 in {x.dtype for x in got}
        for a, b in zip(got, expected, strict=True):
            assert (a.float() - b).abs().max() < 0.2 * b.abs().max()
        instances = model([image()])[0]["instances"]
    assert instances.scores.dtype == instances.pred_boxes.tensor.dtype == torch.float32
    assert instances.scores.isfinite().all()


@pytest.mark.parametrize("system", SYSTEMS)
def test_float32_is_exact_to_rounding(system):
    model = SYSTEMS[system].model().eval()
    with torch.no_grad():
        expected = model([image()])[0]["instances"]
        got = prepare(model)([image()])[0]["instances"]
    assert len(got) == len(expected)
    torch.testing.assert_close(got.scores, expected.scores, rtol=1e-3, atol=1e-4)


def test_a_model_of_another_kind_runs_in_autocast():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    assert prepare(model, dtype="bfloat16")(torch.zeros(1, 3, 8, 8)).dtype == torch.bfloat16
    assert isinstance(model[1], nn.Identity)


def test_threads_are_set():
    before = torch.get_num_threads()
    try:
        prepare(nn.Conv2d(3, 4, 3), threads=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({"threads": n}, f"{n!r} threads are impossible: give 1 or more") for n in (0, -1, "2", 1.5, True)),
        ({"ranges": {"conv": Range(0.0, 1.0)}}, "ranges are for int8, not for float32"),
        ({"dtype": "bfloat16", "ranges": {}}, "ranges are for int8, not for bfloat16"),
    ],
)
def test_arguments_without_a_use_are_refused_before_the_model_changes(options, message):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    with pytest.raises(ConfigError, match=message):
        prepare(model, **options)
    assert isinstance(model[1], nn.BatchNorm2d) and model.training


@pytest.mark.parametrize("model", [nn.ReLU(), object()])
def test_only_models_with_parameters_are_prepared(model):
    with pytest.raises(ConfigError, match=f"this {type(model).__name__} has no parameters"):
        prepare(model)


def test_a_model_is_prepared_once():
    model = prepare(nn.Conv2d(3, 4, 3), dtype="bfloat16")
    for prepared in (model, copy.deepcopy(model)):
        with pytest.raises(ConfigError, match="this model is prepared already: load it again"):
            prepare(prepared)


@pytest.mark.parametrize(
    ("dtype", "message"), [("float16", "float16 needs a GPU: use bfloat16"), ("int4", "'int4' is unknown: use float32")]
)
def test_an_impossible_precision_is_one_line(dtype, message):
    with pytest.raises(ConfigError, match=message):
        check_dtype(dtype, torch.device("cpu"))


@pytest.mark.parametrize("native", [False, True])
def test_slow_bfloat16_is_warned_of(native, monkeypatch, caplog):
    monkeypatch.setattr(engine, "cpu_has_bfloat16", lambda: native)
    with caplog.at_level(logging.WARNING):
        check_dtype("bfloat16", torch.device("cpu"))
    assert ("no instructions for bfloat16" in caplog.text) is not native


def test_int8_is_for_cpus():
    with pytest.raises(ConfigError, match="int8 needs a CPU: use float16 or bfloat16"):
        check_dtype("int8", torch.device("cuda"))


def test_int8_needs_its_convolution(monkeypatch):
    monkeypatch.setattr(engine, "QUANTIZED_CONVOLUTION", "absent")
    with pytest.raises(ConfigError, match="int8 needs oneDNN, which this PyTorch lacks: use bfloat16 or float32"):
        check_dtype("int8", torch.device("cpu"))


def test_compiled_networks_predict_the_same(monkeypatch):
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function: compile_(function, backend="eager"))
    model = SYSTEMS["YOLACT"].model("MODEL.CHANNELS_LAST", False).eval()
    batch = model.preprocess_image([image()]).tensor
    with torch.no_grad():
        expected = flat(model.predict(batch))
        got = flat(prepare(model, compile=True, fuse=False, channels_last=False).predict(batch))
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize("option", ["compile", "cuda_graphs"])
def test_models_without_such_networks_are_refused(option):
    with pytest.raises(ConfigError, match=r"the networks of a Conv2d cannot be compiled|CUDA graphs need a GPU"):
        prepare(nn.Conv2d(3, 4, 3), **{option: True})


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
            found, expected = flat(model.predict(batch)), flat(exact.predict(batch))
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert "computes something else" not in caplog.text


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


def test_the_options_reach_the_engine():
    system = SYSTEMS["YOLACT"]
    cfg = system.cfg("TEST.CUDA_GRAPHS", True, "MODEL.DEVICE", "cpu")
    with pytest.raises(ConfigError, match="CUDA graphs need a GPU"):
        prepare_as_configured(system.model(), cfg)
    cfg = system.cfg("TEST.DTYPE", "int8", "TEST.INT8_RANGES", "absent.json")
    with pytest.raises(ConfigError, match=r"there is no absent\.json"):
        prepare_as_configured(system.model(), cfg)
