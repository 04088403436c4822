"""A prepared model predicts the same, or nearly so in half precision."""

import copy
import logging

import pytest
import torch
from torch import nn

from centermask_solo.modeling import engine
from centermask_solo.modeling.engine import check_dtype, prepare, prepare_as_configured
from centermask_solo.modeling.quantization import Range
from centermask_solo.utils.errors import ConfigError
from tests.modeling.models import SYSTEMS


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


@pytest.mark.parametrize("option", ["compile", "cuda_graphs"])
def test_models_without_such_networks_are_refused(option):
    with pytest.raises(ConfigError, match=r"the networks of a Conv2d cannot be compiled|CUDA graphs need a GPU"):
        prepare(nn.Conv2d(3, 4, 3), **{option: True})


def test_the_options_reach_the_engine():
    system = SYSTEMS["YOLACT"]
    cfg = system.cfg("TEST.CUDA_GRAPHS", True, "MODEL.DEVICE", "cpu")
    with pytest.raises(ConfigError, match="CUDA graphs need a GPU"):
        prepare_as_configured(system.model(), cfg)
    cfg = system.cfg("TEST.DTYPE", "int8", "TEST.INT8_RANGES", "absent.json")
    with pytest.raises(ConfigError, match=r"there is no absent\.json"):
        prepare_as_configured(system.model(), cfg)
