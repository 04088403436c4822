"""What trainings make of the data that they evaluate on: classes by name, and what cannot be evaluated."""

import json
import math
import shutil

import pytest
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from torch import nn

from centermask_solo.checkpoint import Checkpointer
from centermask_solo.training.best import BestWeights, check_best_metric
from centermask_solo.training.trainer import training_data_of
from centermask_solo.training.validation import ValidationLoss
from centermask_solo.utils.errors import ConfigError
from tests.training.tiny import CLASSES, register, tiny_cfg, write_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder)
    return folder


def change(data, folder, change):
    """Register a copy of the dataset with another json as "changed"."""
    shutil.copytree(data, folder)
    content = json.loads((data / "instances.json").read_text())
    change(content)
    (folder / "instances.json").write_text(json.dumps(content))
    register(folder, "changed")


def test_classes_of_the_validation_loss_are_matched_by_name(data, tmp_path):
    def swap(content):
        content["categories"] = [{"id": i, "name": name} for i, name in enumerate(reversed(CLASSES), 1)]
        for x in content["annotations"]:
            x["category_id"] = 3 - x["category_id"]

    change(data, tmp_path / "swapped", swap)
    cfg = tiny_cfg(data, tmp_path / "output")
    cfg.DATASETS.TEST = ("tiny", "changed")
    validation = ValidationLoss(cfg, training_data_of(nn.Identity()), CLASSES)
    classes = [validation._data[i]["instances"].gt_classes.tolist() for i in range(12)]
    assert classes[:6] == classes[6:] == [[1], [0]] * 3


def test_images_without_annotations_are_refused(data, tmp_path):
    change(data, tmp_path / "bare", lambda content: content.pop("annotations"))
    cfg = tiny_cfg(data, tmp_path / "output")
    cfg.DATASETS.TEST, cfg.TEST.KEEP_BEST = ("tiny", "changed"), "changed/segm/AP"
    with pytest.raises(ConfigError, match=r"TEST\.LOSS needs annotated images, but those of 'changed' have no objects"):
        ValidationLoss(cfg, training_data_of(nn.Identity()), CLASSES)
    with pytest.raises(ConfigError, match=r"KEEP_BEST changed/segm/AP needs annotated images, but those of 'changed'"):
        check_best_metric(cfg)
    cfg.TEST.KEEP_BEST = "tiny/segm/AP"
    check_best_metric(cfg)


def test_metrics_of_classes_are_known_before_the_training(data, tmp_path, monkeypatch):
    cfg = tiny_cfg(data, tmp_path / "output")
    cfg.TEST.LOSS = True

    def refused(metric):
        cfg.TEST.KEEP_BEST = metric
        with pytest.raises(ConfigError) as error:
            check_best_metric(cfg)
        return str(error.value)

    assert "'tiny' has no class 'dgo'; the nearest one is dog; its classes are cat, dog" in refused("segm/AP-dgo")
    assert "'tiny' has no class '*'" in refused("segm/AP-*")
    assert refused("ema/validation/total_loss").endswith("set TEST.KEEP_BEST validation/total_loss")
    assert refused("segm/AQ").endswith(", validation/total_loss")
    cfg.TEST.KEEP_BEST = "bbox/AP-cat"
    check_best_metric(cfg)
    monkeypatch.setitem(vars(MetadataCatalog.get("tiny")), "thing_classes", ["cat"])
    assert refused("segm/AP-cat").endswith("'tiny' has only this class: set TEST.KEEP_BEST segm/AP")


def test_evaluations_without_the_metric_do_not_count(tmp_path, caplog):
    weights = BestWeights(Checkpointer(nn.Linear(1, 1), str(tmp_path)), "segm/APl")
    cfg = CfgNode({"TEST": {"PATIENCE": 2, "EVAL_PERIOD": 1}, "SOLVER": {"MAX_ITER": 99}})
    stale = []
    for iteration, value in enumerate([math.nan, math.nan, math.nan, 5.0, math.nan, 4.0, 4.0], 1):
        weights.offer({"segm": {"APl": value}}, iteration, "raw")
        weights.offer({"segm": {}}, iteration, "averaged")
        stale.append(weights.is_stale(cfg, iteration))
    assert stale == [False] * 6 + [True]
    assert "TEST.KEEP_BEST segm/APl is NaN" in caplog.text and "does not count" in caplog.text
