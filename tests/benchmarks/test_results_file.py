"""Results are kept in files that say what they were measured with, and benchmarks write what they print."""

import json
import re

import cv2
import numpy as np
import pytest
import torch

from benchmarks import (
    against_mask_rcnn,
    default_predictor,
    engine,
    pointwise,
    postprocessing,
    predict_folder,
    results_file,
    solov2_decoding,
    training_layouts,
    training_step,
)
from benchmarks.results_file import device_name, results_path, write_report, write_results
from benchmarks.solov2_memory import Case

SHAPES = "shapes/solov2_shapes.yaml"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Benchmarks write there; they may set the number of threads."""
    monkeypatch.setattr(results_file, "RESULTS", tmp_path / "results")
    (tmp_path / "results").mkdir()
    before = torch.get_num_threads()
    yield tmp_path / "results"
    torch.set_num_threads(before)


def run(module, monkeypatch, *arguments):
    """Run a benchmark's command line; return the content of the only file that there is afterwards."""
    monkeypatch.setattr("sys.argv", [module.__name__, *arguments])
    module.main()
    (path,) = results_file.RESULTS.iterdir()
    assert path == results_path(module.__name__.rpartition(".")[2])
    content = json.loads(path.read_text())
    assert (content["device"], content["torch"]) == (device_name("cpu"), torch.__version__)
    return content


def test_names_state_device_threads_and_version(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.14.1+cu130")
    monkeypatch.setattr(
        results_file, "device_name", lambda device: {"cpu": "AMD EPYC, 1 thread", "cuda": "A (B)"}[device]
    )
    assert results_path("engine").name == "engine-amd_epyc_1_thread_torch_2.14.1_cu130.json"
    assert results_path("engine", "cuda").name == "engine-a_b_torch_2.14.1_cu130.json"


def test_names_state_the_threads_of_now():
    for count, words in ((1, "1_thread"), (2, "2_threads")):
        torch.set_num_threads(count)
        assert re.search(f"_{words}_torch_[^/]*json$", str(results_path("engine")))


def test_results_state_what_they_were_measured_with(folder, capsys):
    write_results("a", [{"x": 1}], runs=3)
    content = json.loads(results_path("a").read_text())
    assert list(content.items()) == [
        ("device", device_name("cpu")),
        ("torch", torch.__version__),
        ("runs", 3),
        ("cases", [{"x": 1}]),
    ]
    assert capsys.readouterr().out == f"wrote {results_path('a')}\n"
    write_report("b", {"SOLOv2": 1})
    assert results_path("b").read_text() == '{\n  "SOLOv2": 1\n}\n'


def test_results_are_merged_by_what_tells_them_apart():
    first = [{"config": "a", "size": (1, 2), "s": 1.0}, {"config": "b", "size": (1, 2), "s": 2.0}]
    write_results("a", first, merge_by=("config", "size"))
    write_results(
        "a",
        [{"config": "b", "size": (1, 2), "s": 3.0}, {"config": "a", "size": (1, 3), "s": 4.0}],
        merge_by=("config", "size"),
    )
    cases = json.loads(results_path("a").read_text())["cases"]
    assert [(x["config"], x["size"], x["s"]) for x in cases] == [("a", [1, 2], 1), ("b", [1, 2], 3), ("a", [1, 3], 4)]
    write_results("a", first[:1])
    assert len(json.loads(results_path("a").read_text())["cases"]) == 1


def test_memory_benchmarks_write_all_that_they_print(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["few_memory", "--runs", "2", "--first", "1", "--write"])
    cases = {name: lambda device, runs: {"device": device, "runs": runs} for name in ("typical", "all_pass")}
    postprocessing.main("few_memory", "", cases)
    content = json.loads(results_path("few_memory").read_text())
    assert list(content) == ["device", "torch", "detectron2", "runs", "cases"] and content["runs"] == 2
    assert content["cases"] == {"typical": {"device": "cpu", "runs": 2}}
    assert str({k: content[k] for k in list(content)[:4]}) in capsys.readouterr().out


def test_against_mask_rcnn_writes_its_reports(monkeypatch):
    monkeypatch.setattr(against_mask_rcnn, "PAIRS", {"SOLOv2": (SHAPES, (64, 96))})
    monkeypatch.setattr(against_mask_rcnn, "MASK_RCNN", "shapes/mask_rcnn_shapes.yaml")
    arguments = ["against_mask_rcnn", "--systems", "SOLOv2", "--device", "cpu", "--runs", "1", "--cpu-time", "--write"]
    monkeypatch.setattr("sys.argv", arguments)
    against_mask_rcnn.main()
    (report,) = json.loads(results_path("against_mask_rcnn").read_text()).values()
    assert [x["name"] for x in report["measured"]] == [SHAPES, "shapes/mask_rcnn_shapes.yaml"]


def test_nothing_is_written_unless_asked(folder, monkeypatch):
    monkeypatch.setattr(pointwise, "CASES", {})
    monkeypatch.setattr("sys.argv", ["pointwise"])
    pointwise.main()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("compiled", [False, True])
def test_engine(monkeypatch, capsys, compiled):
    """Whether compiled networks are compiled is a matter of ``prepare``'s tests."""
    prepare = engine.prepare
    asked = []

    def without_compiler(model, **options):
        asked.append(options.pop("compile", False))
        return prepare(model, **options)

    monkeypatch.setattr(engine, "prepare", without_compiler)
    monkeypatch.setattr(engine, "VARIANTS", {k: v for k, v in engine.VARIANTS.items() if k == "as built"})
    options = ["--compile"] if compiled else []
    content = run(engine, monkeypatch, SHAPES, "--size", "64", "96", "--runs", "1", "--write", *options)
    (case,) = content["cases"]
    assert (case["config"], case["size"], case["runs"]) == (SHAPES, [64, 96], 1)
    names = ["as built", *(["compiled", "bfloat16, compiled"] if compiled else [])]
    assert list(case["seconds"]) == names and min(case["seconds"].values()) > 0
    assert asked == [True] * 2 * compiled
    assert f"| model | input | {' | '.join(names)} |" in capsys.readouterr().out


def test_default_predictor(monkeypatch, capsys):
    """It states how many instances are decoded."""
    monkeypatch.setattr(default_predictor, "SIZE", (64, 96))
    (case,) = run(default_predictor, monkeypatch, SHAPES, "--runs", "1", "--write")["cases"]
    assert case["config"] == SHAPES and case["size"] == [64, 96]
    assert case["seconds"].keys() == case["detections"].keys() == default_predictor.LAYOUTS.keys()
    counts = [str(x) for x in case["detections"].values()]
    assert capsys.readouterr().out.splitlines()[-2].endswith(f"| {', '.join(counts)} |")


@pytest.mark.slow
def test_predict_folder_keeps_both_clocks(tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "images" / "a.png"), image)
    arguments = [SHAPES, "--images", str(tmp_path / "images"), "--rounds", "1", "--write"]
    run(predict_folder, monkeypatch, *arguments)
    cases = run(predict_folder, monkeypatch, *arguments, "--cpu-time")["cases"]
    assert [(x["config"], x["clock"]) for x in cases] == [(SHAPES, "elapsed time"), (SHAPES, "CPU time")]
    for case in cases:
        assert list(case["ms_an_image"]) == ["network", "model", "in turn", "predict"]
        assert min(case["ms_an_image"].values()) > 0 and case["images"] == 1


def test_training_step(monkeypatch, capsys):
    size = ["--size", "64", "96", "--images", "1", "--objects", "2", "--runs", "1"]
    (case,) = run(training_step, monkeypatch, SHAPES, *size, "--write")["cases"]
    assert (case["config"], case["size"], case["objects"]) == (SHAPES, [64, 96], 2)
    assert 0 < case["targets_s"] < case["step_s"] and case["peak_mb"] > 0
    assert f"step {case['step_s']:.2f} s, {case['peak_mb']:.0f} MB" in capsys.readouterr().out


@pytest.mark.slow
def test_training_layouts(monkeypatch):
    arguments = ["shapes/yolact_shapes.yaml", "--size", "64", "64", "--batch", "1", "--runs", "1", "--write"]
    run(training_layouts, monkeypatch, *arguments)
    cases = run(training_layouts, monkeypatch, *arguments, "--amp")["cases"]
    assert [x["amp"] for x in cases] == [False, True]
    assert all(list(x["seconds"]) == ["(N, C, H, W)", "(N, H, W, C)"] for x in cases)


def test_pointwise(monkeypatch):
    monkeypatch.setattr(pointwise, "CASES", {"tiny": (1, 8, 4, 6, 7)})
    content = run(pointwise, monkeypatch, "--runs", "2", "--write")
    assert content["runs"] == 2
    assert [x["what"] for x in content["cases"]] == ["prediction", "with gradients"]
    assert all(x["input"] == "tiny, 8 to 4, 6 × 7" and x["pytorch_ms"] > 0 < x["onednn_ms"] for x in content["cases"])


def test_solov2_decoding(monkeypatch, capsys):
    monkeypatch.setattr(solov2_decoding, "IMAGE_SIZE", (64, 96))
    case = Case("few", passing=0.01, num_classes=2, image_size=(64, 96))
    monkeypatch.setattr(solov2_decoding, "CASES", {"few": case})
    (found,) = run(solov2_decoding, monkeypatch, "--runs", "1", "--write")["cases"]
    assert found["case"] == "few" and len(found["seconds"]) == 7 and min(found["seconds"].values()) > 0
    assert f"few: {found['candidates']} candidates" in capsys.readouterr().out
