"""More objects than the official metrics count: all count, in whatever way an image with its results is evaluated."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from centermask_solo.config import default_config, merge_config
from centermask_solo.data.own_files import register_files
from centermask_solo.evaluation.of_results import evaluate_results
from centermask_solo.modeling.option_scope import max_detections, with_max_detections
from centermask_solo.runtime.instances import ExportedInstances
from centermask_solo.training import evaluate as evaluation
from centermask_solo.training.trainer import Trainer
from tests.evaluation.scenes import SIDE, Scene
from tests.evaluation.test_end_to_end import Oracle

BOXES = [(5 * i, 5 * j, 4, 4) for i in range(20) for j in range(18)]  # 360
CONFIG = "SOLOv2/solov2_R_50_3x.yaml"


@pytest.fixture(params=["coco", "lvis"])
def scene(request, tmp_path):
    """An image with 360 objects, all of which are found.

    They are of one class for COCO, whose limits are for each class, and of six for LVIS, whose limits are for all.
    """
    lvis = request.param == "lvis"
    names = [f"class {i}" for i in range(6 if lvis else 1)]
    classes = [i * len(names) // len(BOXES) for i in range(len(BOXES))]
    objects = [(0, label, x) for label, x in zip(classes, BOXES, strict=True)]
    scene = Scene(tmp_path, objects, [(*x, 0.9 - 0.1 * x[1]) for x in objects], classes=names)
    scene.classes = classes
    if lvis:
        pytest.importorskip("lvis")
        scene.content["images"][0] |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
        scene.content["images"][0]["coco_url"] = f"http://host/{tmp_path.name}/0.png"
        for x in scene.content["categories"]:
            x |= {"id": x["id"] // 5, "frequency": "r"}
        for x in (*scene.content["annotations"], *scene.results):
            x["category_id"] //= 5
        scene.write()
    Image.fromarray(np.zeros((SIDE, SIDE, 3), np.uint8)).save(tmp_path / "0.png")
    scene.images = str(tmp_path.parent if lvis else tmp_path)
    scene.official = 300 if lvis else 100
    return scene


def check(scene, metrics, reached):
    """All of the metrics: with the share of the objects that count, and none is -1."""
    assert list(metrics) == ["bbox", "segm"]
    for found in metrics.values():
        expected = reached / len(BOXES)  # of the classes
        if not any(scene.classes):
            expected = math.floor(100 * expected + 1) / 101  # of the recalls 0, 0.01, ..., 1
        assert found["AP"] == found["AP50"] == found["APs"] == pytest.approx(100 * expected)
        assert not any(x < 0 for x in found.values())


def corners(box):
    x, y, w, h = box
    return x, y, x + w, y + h


def configure(scene, limit, *options):
    cfg = default_config()
    name = register_files(str(scene.json_file), scene.images)
    options = ["DATASETS.TEST", f"('{name}',)", "DATALOADER.NUM_WORKERS", "0", *options]
    merge_config(cfg, CONFIG, [*options, "OUTPUT_DIR", str(scene.json_file.parent / "output")])
    return cfg if limit is None else with_max_detections(cfg, limit)


@pytest.mark.parametrize("limit", [None, 360])
def test_results_of_a_model(scene, limit):
    found = {10: [(1 + k, 0.9 - 0.1 * k, corners(x)) for k, x in zip(scene.classes, BOXES, strict=True)]}
    oracle = Oracle(found)
    oracle.size = (SIDE, SIDE)
    check(scene, Trainer.test(configure(scene, limit), oracle), limit or scene.official)


@pytest.mark.parametrize("limit", [None, 120])
def test_results_in_a_file(scene, limit):
    metrics = evaluate_results(str(scene.results_file), str(scene.json_file), scene.images, max_detections=limit)
    check(scene, metrics, limit or len(BOXES))


class ExportedOracle:
    """In place of what runs a file with slots for 360 detections."""

    def __init__(self, scene):
        self.classes, self.class_names = scene.classes, [x["name"] for x in scene.content["categories"]]
        rule = SimpleNamespace(short_edge=SIDE, max_long_edge=SIDE)
        images = SimpleNamespace(size=None, channel_order="BGR", resize=rule)
        self.metadata = SimpleNamespace(input=images, max_detections=len(BOXES))

    def run(self, images, sizes, form):
        boxes = np.array([corners(x) for x in BOXES])
        masks = np.zeros((len(boxes), SIDE, SIDE), bool)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
            mask[y0:y1, x0:x1] = True
        classes = np.array(self.classes)
        fields = {"pred_boxes": boxes.astype(np.float32), "scores": np.float32(0.9 - 0.1 * classes)}
        fields["pred_classes"] = classes
        return [ExportedInstances(size, pred_masks=masks, **fields) for size in sizes]


def test_an_exported_file(scene, monkeypatch):
    monkeypatch.setattr(evaluation, "ExportedPredictor", lambda path, **_: ExportedOracle(scene))
    options = ["MODEL.WEIGHTS", "a.onnx", "INPUT.MIN_SIZE_TEST", str(SIDE), "INPUT.MAX_SIZE_TEST", str(SIDE)]
    cfg = configure(scene, None, *options)
    assert max_detections(cfg) == 100
    check(scene, evaluation.evaluate(cfg), len(BOXES))
