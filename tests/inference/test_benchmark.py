"""Measurements of prediction: all stages, all configs interleaved, and what the report says of them."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from centermask_solo.cli import main
from centermask_solo.inference import benchmark as module
from centermask_solo.inference.benchmark import TOTAL, Measured, Report, benchmark, load_predictor
from centermask_solo.inference.benchmark_report import format_report
from centermask_solo.inference.stages import (
    DECODE,
    MASKS,
    MODEL,
    NETWORK,
    NORMALIZE,
    READ,
    RESIZE,
    RLE,
    Clock,
    predict_in_stages,
)
from centermask_solo.model_zoo import get_config
from centermask_solo.modeling.parts import build_checked
from centermask_solo.runtime.metadata import Resize
from centermask_solo.utils.errors import ConfigError
from tests.commands import refuses
from tests.runtime.files import ABOUT, write_onnx

SMALL = ["INPUT.MIN_SIZE_TEST", 64, "INPUT.MAX_SIZE_TEST", 96, "MODEL.DEVICE", "cpu"]
SOLOV2, MASK_RCNN = "shapes/solov2_shapes.yaml", "shapes/mask_rcnn_shapes.yaml"
CENTERMASK = "shapes/centermask_shapes.yaml"
EAGER = ["MODEL.SOLOV2.SCORE_THRESH_TEST", 0.0, "MODEL.SOLOV2.NMS.SCORE_THRESH", 0.0]
OWN = [READ, RESIZE, NORMALIZE, NETWORK, DECODE, MASKS, RLE, TOTAL]


def small(name, *opts):
    cfg = get_config(name)
    cfg.MODEL.WEIGHTS = ""
    cfg.merge_from_list([*SMALL, *opts])
    return cfg


def test_two_configs_take_turns(monkeypatch):
    order = []

    def record(predictor, paths, clock):
        order.append((predictor.cfg.TEST.DTYPE, predictor.cfg.MODEL.META_ARCHITECTURE, len(paths)))
        return predict_in_stages(predictor, paths, clock)

    monkeypatch.setattr(module, "predict_in_stages", record)
    cfgs = {"a": small(SOLOV2), "b": small(MASK_RCNN, "TEST.DTYPE", "bfloat16")}
    report = benchmark(cfgs, size=(48, 64), batch_size=2, runs=3)
    assert order == [("float32", "SOLOv2", 2), ("bfloat16", "GeneralizedRCNN", 2)] * (3 + module.WARM_UP)
    ours, theirs = report.measured
    assert list(ours.seconds) == OWN and list(theirs.seconds) == [READ, RESIZE, MODEL, RLE, TOTAL]
    for x in report.measured:
        assert all(len(values) == 3 and min(values) > 0 for values in x.seconds.values())
        stages = np.sum([values for stage, values in x.seconds.items() if stage != TOTAL], axis=0)
        np.testing.assert_allclose(x.seconds[TOTAL], stages)
        assert x.input_sizes == [(64, 96)] and x.memory["process"] > 10**8
    assert theirs.network_rate is None and ours.network_rate == pytest.approx(1 / ours.median(NETWORK))
    text = format_report(report)
    assert "2 per forward pass; 3 runs of each config" in text and "random weights: a, b" in text
    assert json.loads(json.dumps(report.to_json()))["measured"][0]["images_per_s"] == pytest.approx(1 / ours.median())


def test_the_stages_find_what_predict_finds(tmp_path):
    predictor = load_predictor(small(SOLOV2, *EAGER))
    paths = module._generate(str(tmp_path), (48, 64), 2)
    results = predict_in_stages(predictor, paths, Clock(torch.device("cpu")))
    expected = [output["instances"] for _, _, output in predictor.predict_files(paths, 2)]
    assert [len(x) for x in results] == [len(x) for x in expected] and len(results[0]) > 5
    np.testing.assert_array_equal([x["score"] for x in results[1]], expected[1].scores)
    assert [x["segmentation"]["size"] for x in results[0]] == [[48, 64]] * len(results[0])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_model_is_left_as_it_was(tmp_path, dtype):
    predictor = load_predictor(small(CENTERMASK, "TEST.DTYPE", dtype))
    before = dict(vars(predictor.model))
    clock = Clock(torch.device("cpu"))
    predict_in_stages(predictor, module._generate(str(tmp_path), (48, 64), 1), clock)
    assert vars(predictor.model) == before and ("predict" in before) == (dtype == "bfloat16")
    assert set(clock.read()) >= {NORMALIZE, NETWORK, DECODE, MASKS}


def test_a_stage_inside_another_does_not_count_to_it(monkeypatch):
    now = iter([0, 1, 3, 4, 9, 10])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    clock = Clock(torch.device("cpu"))
    with clock.stage("outer"):
        for name in ("a", "b"):
            with clock.stage(name):
                pass
    assert clock.read() == {"outer": 3, "a": 2, "b": 5}


def test_random_weights_are_always_the_same_and_no_warning(caplog):
    with caplog.at_level(logging.WARNING):
        a, b = (load_predictor(small(SOLOV2)).model.state_dict() for _ in range(2))
    assert all(torch.equal(a[key], b[key]) for key in a) and not caplog.messages


def test_medians_and_percentiles():
    measured = Measured("x", "float32", "w.pth", "cpu", 1_500_000, [(64, 96), (64, 64)], 2.5, memory={"process": 10**9})
    measured.seconds = {NETWORK: [0.1, 0.2, 0.9], TOTAL: [0.2, 0.4, 1.0]}
    assert measured.median() == 0.4 and measured.p90(NETWORK) == pytest.approx(0.76)
    about = {"cpu": "C", "cores": 2, "threads": 1, "gpu": "G", "torch": "2", "detectron2": "3"}
    text = format_report(Report(about, "4 files", 1, 3, True, [measured]))
    assert text.startswith("C, 1 thread; PyTorch 2, Detectron2 3\n") and "milliseconds of CPU time" in text
    for cell in ("200.0 (760.0)", "400.0 (880.0)", "2.50", "5.00", "64 x 96 and 1 more", "1.50 M", "1000 MB", "2.5"):
        assert cell in text
    assert "random weights" not in text
    measured.device = "cuda"
    assert format_report(Report(about, "", 1, 3, False, [measured])).startswith("G, C, 1 thread")


def test_a_gpu_is_measured_by_events_that_are_read_after_its_work(monkeypatch):
    calls = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self, stream):
            self.time = len(calls)
            calls.append(f"record in {stream}")

        def elapsed_time(self, other):
            assert calls[-1] == "synchronize"
            return 1000.0 * (other.time - self.time)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"the stream of {device}")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: calls.append("synchronize"))
    clock = Clock(torch.device("cuda", 1))
    for name in ("a", "b", "a"):
        with clock.stage(name):
            pass
    assert clock.read() == {"a": 2.0, "b": 1.0}
    assert calls == ["record in the stream of cuda:1"] * 6 + ["synchronize"]
    with pytest.raises(ValueError, match="CPU time says nothing of the work on 'cuda:1'"):
        Clock(torch.device("cuda", 1), cpu_time=True)


def test_the_command(tmp_path, capsys):
    image = module._generate(str(tmp_path), (48, 64), 1)[0]
    files = ["--json", str(tmp_path / "x.json"), "--plot", str(tmp_path / "x.png")]
    opts = [str(x) for x in SMALL]
    argv = ["benchmark", "--config-file", SOLOV2, "--images", image, "--runs", "1", "--threads", "1", "--cpu-time"]
    main([*argv, *files, "--compare", "TEST.DTYPE", "bfloat16", "--dtype", "float32", *opts])
    text = capsys.readouterr().out
    assert "images: 1 file;" in text and "TEST.DTYPE bfloat16" in text and "random weights" in text
    content = json.loads((tmp_path / "x.json").read_text())
    assert [x["dtype"] for x in content["measured"]] == ["float32", "bfloat16"] and content["cpu_time"]
    assert (tmp_path / "x.png").stat().st_size > 1000
    for bad, message in (
        ([*argv, *files], "x.json exists"),
        (["benchmark"], "give --config-file or --weights"),
        ([*argv, "--json", "x.png", "--plot", "./x.png"], "--json and --plot both name x.png"),
        ([*argv[:5], "--flops", "--plot", "x.png"], "--flops measures nothing: leave out --images, --plot"),
        ([*argv, "--flops", "--batch-size", "2"], "leave out --images, --batch-size, --threads, --runs, --cpu-time"),
        ([*argv[:3], "--flops", "--device", "cpu", "--dtype", "float32"], "leave out --dtype, --device"),
        ([*argv, "--size", "64", "64"], "--size is for generated images: leave it out, or --images"),
        ([*argv[:3], "--size", "9999999", "64"], "(9999999, 64) is no size of images: give height and width in pixels"),
        ([*argv[:3], "--device", "tpu"], "MODEL.DEVICE 'tpu' is not a device of PyTorch"),
        ([*argv[:3], "--device", "hpu"], "MODEL.DEVICE 'hpu' cannot be used here"),
        ([*argv, "--plot", "x.txt"], "x.txt cannot be plotted: name a file that ends in .png"),
        ([*argv, "--compare", SOLOV2], "is measured already"),
        (["benchmark", "--config-file", "shapes/fast_rcnn_shapes.yaml"], "needs precomputed proposals"),
    ):
        with pytest.raises(SystemExit) as end:
            main(bad)
        error = capsys.readouterr().err
        assert end.value.code == 2 and message in error.splitlines()[-1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_a_gpu_that_is_missing_is_one_line(capsys):
    argv = ["benchmark", "--config-file", SOLOV2, "--runs", "1", "--device", "cuda"]
    assert "MODEL.DEVICE is 'cuda', but no GPU is usable" in refuses(capsys, argv)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        ({"batch_size": 0}, "0 images per forward pass are impossible"),
        ({"runs": "3"}, "'3' runs are impossible"),
        ({"threads": 0}, "0 threads are impossible"),
        ({"size": (480,)}, r"\(480,\) is no size of images"),
    ],
)
def test_impossible_numbers(number, message):
    with pytest.raises(ConfigError, match=message):
        benchmark({"a": small(SOLOV2)}, **number)


def test_the_size_that_a_file_gives_its_network(tmp_path):
    """Padded; unknown where the graph resizes."""
    path = write_onnx(tmp_path / "model.onnx")
    report = benchmark({"a": path}, size=(48, 72), runs=1)
    assert report.measured[0].input_sizes == [(32, 64)]
    stretched = replace(ABOUT.input, resize=Resize(0, 99, stretch=True), image_sizes=False)
    about = replace(ABOUT, input=stretched, masks=replace(ABOUT.masks, stride=0))
    write_onnx(tmp_path / "model.onnx", about, inputs=["images"])
    report = benchmark({"a": path}, size=(48, 72), runs=1)
    assert report.measured[0].input_sizes == []
    row = next(x for x in format_report(report).splitlines() if x.startswith("input of the network"))
    assert row.split() == ["input", "of", "the", "network"]


def test_the_command_measures_weights(tmp_path, capsys):
    weights = tmp_path / "model.pth"
    cfg = small(SOLOV2, "MODEL.SOLOV2.NUM_CLASSES", 5)
    torch.save({"model": build_checked(cfg).state_dict(), "config": cfg.dump()}, weights)
    main(["benchmark", "--weights", str(weights), "--runs", "1", "--size", "48", "64"])
    text = capsys.readouterr().out
    assert "random weights" not in text and str(weights) in text
    argv = ["benchmark", "--weights", f"{weights}?ema=True", "--config-file", SOLOV2, "--overwrite"]
    argv += ["--json", str(weights)]
    before = weights.read_bytes()
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 2 and weights.read_bytes() == before
    assert "model.pth is an input, which would be lost" in capsys.readouterr().err


def test_parameters_are_those_of_the_model_in_any_precision():
    report = benchmark({"a": small(SOLOV2), "b": small(SOLOV2, "TEST.DTYPE", "bfloat16")}, size=(48, 64), runs=1)
    cfg = small(SOLOV2)
    module.set_num_classes(cfg)
    expected = sum(x.numel() for x in build_checked(cfg).parameters())
    assert [x.parameters for x in report.measured] == [expected] * 2


def test_the_command_counts(capsys):
    main(["benchmark", "--config-file", "YOLACT/yolact_resnet50.yaml", "--flops", "--compare", MASK_RCNN])
    text = capsys.readouterr().out
    assert "multiply-adds at 550 x 550" in text and "total                    31.16 M" in text
    assert "multiply-adds at 192 x 256" in text and "roi_heads.mask_head" in text
