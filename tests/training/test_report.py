"""Pictures in TensorBoard, experiment trackers, and the report at the end of a training."""

import base64
import io
import json
import re
import sys
from types import SimpleNamespace

import pytest
import torch
from detectron2.modeling import META_ARCH_REGISTRY
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from centermask_solo.training.report import changed_options, groups_of, read_history, table_of
from centermask_solo.training.run import run_training
from centermask_solo.training.trainer import Trainer
from centermask_solo.utils.errors import MissingPackageError
from tests.training.tiny import TinyModel, tiny_cfg, write_dataset


@pytest.fixture
def cfg(tmp_path):
    write_dataset(tmp_path / "data", num_images=4)
    cfg = tiny_cfg(tmp_path / "data", tmp_path / "output")
    cfg.merge_from_list(["MODEL.MASK_ON", True, "SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 4, "TEST.EVAL_PERIOD", 2])
    return cfg


def test_pictures_are_in_tensorboard(cfg, tmp_path):
    cfg.TEST.PICTURES, cfg.MODEL.EMA.ENABLED = 2, True
    run_training(cfg)
    events = EventAccumulator(str(tmp_path / "output"), size_guidance={"images": 0}).Reload()
    names = {f"{prefix}pictures/{i}" for prefix in ("", "ema/") for i in (0, 1)}
    assert set(events.Tags()["images"]) == names
    images = events.Images("pictures/0")
    assert [x.step for x in images] == [1, 4]
    picture = Image.open(io.BytesIO(images[0].encoded_image_string))
    assert picture.size == (2 * 56, 40)


def test_report(cfg, tmp_path):
    cfg.TEST.REPORT = True
    run_training(cfg)
    text = (tmp_path / "output" / "report.html").read_text()
    headings = re.findall("<h2>(.*?)</h2>", text)
    assert headings == [
        "Summary",
        "Results",
        "Curves",
        "Ground truth and detections",
        "Options that are not at their defaults",
    ]
    assert "tiny: 4 images, 4 objects" in text and "segm</th>" in text and "MODEL.META_ARCHITECTURE" in text
    captions = re.findall("<figcaption>(.*?)</figcaption>", text)
    assert {"losses", "learning rate", "segm"} <= set(captions)
    assert [x for x in captions if x.endswith("1 detection")] == [f"{i}.png: 1 detection" for i in range(1, 5)]
    for kind, content in re.findall(r'src="data:image/(\w+);base64,([^"]+)"', text):
        assert Image.open(io.BytesIO(base64.b64decode(content))).format.lower() == kind
    assert not re.search(r'(src|href)="http', text)


class LabelsPixels(TinyModel):
    """Has no instances, as Detectron2's SemanticSegmentor."""

    def forward(self, batched_inputs):
        outputs = super().forward(batched_inputs)
        return (
            outputs if self.training else [{"sem_seg": torch.zeros(2, x["height"], x["width"])} for x in batched_inputs]
        )


def test_a_model_without_instances_has_a_report_without_pictures(cfg, tmp_path, monkeypatch):
    monkeypatch.setitem(META_ARCH_REGISTRY._obj_map, "TinyModel", LabelsPixels)
    monkeypatch.setattr(Trainer, "test", staticmethod(lambda cfg, model: {"sem_seg": {"mIoU": 40.0}}))
    cfg.TEST.REPORT, cfg.TEST.PICTURES = True, 2
    run_training(cfg)
    headings = re.findall("<h2>(.*?)</h2>", (tmp_path / "output" / "report.html").read_text())
    assert headings == ["Summary", "Results", "Curves", "Options that are not at their defaults"]


def test_no_report_unless_asked_for(cfg, tmp_path):
    run_training(cfg)
    assert not (tmp_path / "output" / "report.html").exists()


def test_curves(tmp_path):
    entries = [{"iteration": 0, "lr": 0.1, "total_loss": 2.0}, {"iteration": 19, "lr": 0.2, "total_loss": 1.0}]
    entries += [{"iteration": 19, "segm/AP": 3.0, "segm/AP-cat": 2.0, "validation/total_loss": 4.0, "time": 0.1}]
    path = tmp_path / "metrics.json"
    path.write_text("".join(json.dumps(x) + "\n" for x in entries))
    history = read_history(str(path))
    assert history["total_loss"] == ([0, 19], [2.0, 1.0])
    groups = {title: sorted(curves) for title, curves in groups_of(history).items()}
    assert groups == {
        "learning rate": ["lr"],
        "losses": ["total_loss"],
        "segm": ["AP"],
        "losses of validation": ["validation/total_loss"],
    }
    assert read_history(str(tmp_path / "absent.json")) == {}


def test_curves_of_a_resumed_training_do_not_run_back(tmp_path):
    """The iterations between its checkpoint and the interruption are there twice: the last ones count."""
    losses = [(19, 3.0), (39, 2.0), (59, 9.0), (39, 2.5), (59, 1.5), (79, 1.0)]
    path = tmp_path / "metrics.json"
    path.write_text("".join(json.dumps({"iteration": i, "total_loss": x}) + "\n" for i, x in losses))
    assert read_history(str(path)) == {"total_loss": ([19, 39, 59, 79], [3.0, 2.5, 1.5, 1.0])}


def test_options(cfg):
    options = changed_options(cfg)
    assert options["SOLVER.MAX_ITER"] == "4" and "SOLVER.MOMENTUM" not in options
    cfg.MODEL.SOLO.SCALE_RANGES = [list(x) for x in cfg.MODEL.SOLO.SCALE_RANGES]  # as a file has them
    assert changed_options(cfg) == options
    cfg.MODEL.SOLO.SCALE_RANGES[0][1] = 97
    assert set(changed_options(cfg)) - set(options) == {"MODEL.SOLO.SCALE_RANGES"}


def test_the_table_has_the_metrics_that_exist():
    nan = float("nan")
    results = {"bbox": {"AP": 1.234, "APl": nan, "AP-cat": nan}, "segm": {"AP": 2.0, "APl": 3, "AP-cat": nan}}
    header, rows = table_of(results)
    assert header == ["metric", "bbox", "segm"] and rows == [["AP", 1.23, 2.0], ["APl", "", 3.0]]


class FakeRun:
    """A run of Weights & Biases, or MLflow, that keeps what it is given."""

    def __init__(self):
        self.metrics, self.options, self.ended = {}, {}, False

    def init(self, dir, name, config):
        self.options, self.name = config, name
        return self

    def start_run(self, run_name):
        self.name = run_name

    def log_params(self, options):
        assert all(isinstance(x, str) and len(x) <= 500 for x in options.values())
        self.options = options

    def log(self, metrics, step):
        self.metrics.setdefault(step, {}).update(metrics)

    log_metrics = log

    def finish(self):
        self.ended = True

    end_run = finish


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_trackers_get_metrics_and_options(cfg, monkeypatch, name):
    run = FakeRun()
    parts = {x: getattr(run, x) for x in ("init", "start_run", "log_params", "log_metrics", "end_run")}
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(**parts))
    cfg.SOLVER.TRACKERS = [name]
    run_training(cfg)
    assert run.ended and run.name == "output"
    assert str(run.options["SOLVER.MAX_ITER"]) == "4"
    assert run.metrics[3]["total_loss"] > 0
    assert {"segm/AP" in metrics for metrics in run.metrics.values()} == {True, False}


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_tracker_is_an_error_that_says_how_to_get_it(cfg, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    cfg.SOLVER.TRACKERS = [name]
    with pytest.raises(MissingPackageError, match=rf"run 'pip install \"centermask_solo\[{name}\]\"'"):
        run_training(cfg)
