"""The backends of COCO's metrics: the same numbers from all of them, in less memory from some."""

import json
import logging

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import COCOEvaluator
from pycocotools import mask as rle

from centermask_solo.config import default_config
from centermask_solo.config.ranges import find_rule
from centermask_solo.evaluation import MaskScoreCOCOEvaluator, backends, build_evaluator
from centermask_solo.evaluation.backends import evaluate_coco, find_backend, installed_backends
from centermask_solo.evaluation.ground_truth import GroundTruth, read_ground_truth
from centermask_solo.utils.errors import ConfigError, MissingPackageError

HEIGHT, WIDTH, NUM_CLASSES = 60, 80, 4
IDS = (3, 8, 11, 90)  # of the categories
FAST = ("hotcoco", "faster-coco-eval", "detectron2")


def mask_of(box, rng):
    x, y, w, h = box
    angles = np.arange(12) * (2 * np.pi / 12)
    radii = rng.uniform(0.6, 1, 12) / 2
    points = np.stack([x + w * (0.5 + radii * np.cos(angles)), y + h * (0.5 + radii * np.sin(angles))], axis=1)
    return [points.clip(0).ravel().round(2).tolist()]


def random_box(rng):
    x, y = rng.uniform(0, (WIDTH - 12, HEIGHT - 12))
    return [round(float(v), 2) for v in (x, y, rng.uniform(6, WIDTH - x), rng.uniform(6, HEIGHT - y))]


def coded(polygons):
    code = rle.merge(rle.frPyObjects(polygons, HEIGHT, WIDTH))
    return {"size": [HEIGHT, WIDTH], "counts": code["counts"].decode("ascii")}


@pytest.fixture(scope="module")
def data():
    """Random ground truth with crowds, empty images and a class without objects; detections with equal scores."""
    rng = np.random.default_rng(0)
    images = [{"id": i, "file_name": f"{i}.jpg", "height": HEIGHT, "width": WIDTH} for i in (7, 5, 30, 2, 11, 12)]
    annotations, results = [], []
    for image in images[:-1]:
        for _ in range(int(rng.integers(2, 9))):
            box, label = random_box(rng), int(rng.integers(NUM_CLASSES - 1))
            polygons = mask_of(box, rng)
            crowd = int(rng.random() < 0.2)
            one = {"id": len(annotations), "image_id": image["id"], "category_id": IDS[label], "iscrowd": crowd}
            one |= {"bbox": box, "area": box[2] * box[3] * 0.7, "segmentation": polygons}
            if crowd:
                pixels = rle.decode(coded(polygons)).ravel(order="F")
                starts = np.flatnonzero(np.diff(pixels, prepend=0))
                counts = np.diff([0, *starts, pixels.size]).tolist()
                one["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": counts}
            annotations.append(one)
            for _ in range(int(rng.integers(0, 4))):
                moved = np.array(box) + rng.uniform(-1.5, 1.5, 4)
                outline = (np.array(polygons) + rng.uniform(-1.5, 1.5)).clip(0).tolist()
                found = {"image_id": image["id"], "category_id": label, "score": round(float(rng.random()), 1)}
                results.append(found | {"bbox": moved.tolist(), "segmentation": coded(outline)})
    for _ in range(150):  # of nothing, more than 100 of them in one image
        box = random_box(rng)
        found = {"image_id": 30, "category_id": int(rng.integers(NUM_CLASSES)), "score": float(rng.random())}
        results.append(found | {"bbox": box, "segmentation": coded(mask_of(box, rng))})
    categories = [{"id": i, "name": f"class {i}"} for i in IDS]
    return {"images": images, "annotations": annotations, "categories": categories}, results


@pytest.fixture
def dataset(data, tmp_path):
    path = tmp_path / "gt.json"
    path.write_text(json.dumps(data[0]))
    name = f"backends_{tmp_path.name}"
    register_coco_instances(name, {}, str(path), str(tmp_path))
    MetadataCatalog.get(name).set(
        thing_dataset_id_to_contiguous_id={x: i for i, x in enumerate(IDS)},
        thing_classes=[f"class {i}" for i in IDS],
    )
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def predictions(results):
    of_image = {}
    for x in results:
        of_image.setdefault(x["image_id"], []).append(dict(x))
    return [{"image_id": i, "instances": x} for i, x in of_image.items()]


def metrics(dataset, results, max_dets, kind=MaskScoreCOCOEvaluator, img_ids=None, **options):
    evaluator = kind(dataset, distributed=False, max_dets_per_image=max_dets, **options)
    evaluator.reset()
    evaluator._predictions = predictions(results)
    return evaluator, evaluator.evaluate(img_ids)


def assert_equal(got, expected):
    """Equal to the last digits, in which some backends divide otherwise; nan equals nan."""
    assert {task: list(x) for task, x in got.items()} == {task: list(x) for task, x in expected.items()}
    for task, values in expected.items():
        np.testing.assert_allclose(list(got[task].values()), list(values.values()), rtol=1e-12)


@pytest.mark.parametrize("max_dets", [100, 130, 5])
@pytest.mark.parametrize("backend", FAST)
def test_backends_agree_with_detectron2s_evaluator(dataset, data, backend, max_dets, caplog):
    if backend not in installed_backends():
        pytest.skip(f"{backend} is not installed")
    _, expected = metrics(dataset, data[1], max_dets, COCOEvaluator, use_fast_impl=False)
    with caplog.at_level(logging.INFO):
        _, got = metrics(dataset, data[1], max_dets, backend=backend)
    assert [x for x in caplog.messages if x.startswith(f"COCO's metrics of segm by {backend}")]
    assert set(got) == {"bbox", "segm"} and 5 < got["segm"]["AP"] < 95
    assert_equal(got, expected)
    _, some = metrics(dataset, data[1], max_dets, backend=backend, img_ids=[30, 5])
    assert_equal(some, metrics(dataset, data[1], max_dets, COCOEvaluator, [30, 5], use_fast_impl=False)[1])
    assert some["segm"]["AP"] != got["segm"]["AP"]


@pytest.mark.parametrize("backend", FAST)
def test_curves_are_equal_too(dataset, data, backend):
    if backend not in installed_backends():
        pytest.skip(f"{backend} is not installed")
    results = [x | {"category_id": IDS[x["category_id"]]} for x in data[1]]
    before = repr(results)
    for task in ("bbox", "segm"):
        truth = read_ground_truth(MetadataCatalog.get(dataset).json_file)
        expected, got = (evaluate_coco(x, truth, results, task, [1, 10, 100]) for x in ("pycocotools", backend))
        for curve in ("precision", "recall", "scores"):
            np.testing.assert_allclose(got.eval[curve], expected.eval[curve], rtol=1e-12)  # a quotient's last digit
        np.testing.assert_allclose(got.stats, expected.stats, rtol=1e-12)
    assert repr(results) == before


def test_the_fast_backends_of_the_test_requirements_are_installed():
    assert {"hotcoco", "faster-coco-eval", "pycocotools"} <= set(installed_backends())


def test_one_backend_leaves_the_ground_truth_packed(dataset, data):
    if "hotcoco" not in installed_backends():
        pytest.skip("hotcoco is not installed")
    evaluator, _ = metrics(dataset, data[1], 100, backend="hotcoco")
    assert isinstance(evaluator._coco_api, GroundTruth) and "anns" not in vars(evaluator._coco_api)
    evaluator, _ = metrics(dataset, data[1], 100, backend="pycocotools")
    assert min(vars(evaluator._coco_api)["anns"]) == 1  # though the json has an annotation 0, which would be a miss


def test_auto_prefers_what_is_installed(monkeypatch):
    assert find_backend("auto") == installed_backends()[0]
    monkeypatch.setattr(backends, "_exists", lambda module: module in ("pycocotools", "faster_coco_eval"))
    assert find_backend("auto") == "faster-coco-eval"
    with pytest.raises(MissingPackageError, match="its package is not installed: run 'pip install hotcoco'"):
        find_backend("hotcoco")
    with pytest.raises(MissingPackageError, match="this Detectron2 has no compiled part"):
        find_backend("detectron2")
    with pytest.raises(ConfigError, match="'fast' is not one of auto, hotcoco, faster-coco-eval, detectron2, pycoco"):
        find_backend("fast")


def test_the_option_chooses_the_backend(dataset, tmp_path):
    cfg = default_config()
    cfg.OUTPUT_DIR = str(tmp_path)
    for name in installed_backends():
        cfg.TEST.EVAL_BACKEND = name
        assert build_evaluator(cfg, dataset)._backend == name
    assert MaskScoreCOCOEvaluator(dataset, use_fast_impl=False, output_dir=None)._backend == "pycocotools"


def test_the_option_allows_the_backends():
    assert all(find_rule("TEST.EVAL_BACKEND").allows(x) for x in backends.BACKENDS)
    assert not find_rule("TEST.EVAL_BACKEND").allows("fast")
