"""The metrics of results files."""

import json
import re

import numpy as np
import pytest

from centermask_solo.evaluation.backends import evaluate_coco, installed_backends
from centermask_solo.evaluation.ground_truth import read_ground_truth
from centermask_solo.evaluation.of_results import evaluate_results
from centermask_solo.evaluation.panoptic import PanopticEvaluator
from centermask_solo.evaluation.results_file import read_results
from centermask_solo.utils.errors import ConfigError, DataError
from tests.evaluation.scenes import SIDE, Scene, code, polygon, random_scene
from tests.evaluation.test_panoptic import CATEGORIES, PERFECT, dataset, panoptic

__all__ = ["dataset"]  # a fixture
BOX = (10, 10, 20, 20)
BACKENDS = ("pycocotools", "hotcoco", "faster-coco-eval", "detectron2")


def evaluate(scene, **options):
    return evaluate_results(str(scene.results_file), str(scene.json_file), **options)


@pytest.mark.parametrize("backend", BACKENDS)
def test_metrics_equal_those_of_coco(tmp_path, backend):
    if backend not in installed_backends():
        pytest.skip(f"{backend} is not installed")
    scene = random_scene(tmp_path)
    got = evaluate(scene, backend=backend)
    assert list(got) == ["bbox", "segm"]
    gt = read_ground_truth(str(scene.json_file))
    for task, metrics in got.items():
        expected = 100 * evaluate_coco("pycocotools", gt, scene.results, task, [1, 10, 100]).stats[:6]
        values = [metrics[x] for x in ("AP", "AP50", "AP75", "APs", "APm", "APl")]
        np.testing.assert_allclose(values, np.where(expected < 0, np.nan, expected))
        assert {"AP-cat", "AP-dog", "AP-cow"} <= metrics.keys()


@pytest.mark.parametrize("backend", BACKENDS)
def test_more_than_100_objects_of_an_image(tmp_path, backend):
    """All 121 are found; the official limit counts 100 of them, and no limit makes AP -1."""
    if backend not in installed_backends():
        pytest.skip(f"{backend} is not installed")
    boxes = [(6 * i, 6 * j, 5, 5) for i in range(11) for j in range(11)]
    scene = Scene(tmp_path, [(0, 0, x) for x in boxes], [(0, 0, x, 0.5) for x in boxes])
    for limit, reached in ((None, 101), (300, 101), (121, 101), (100, 83), (10, 9)):
        got = evaluate(scene, max_detections=limit, backend=backend)
        for metrics in got.values():
            assert metrics["AP"] == metrics["AP50"] == metrics["APs"] == pytest.approx(100 * reached / 101), limit
            assert np.isnan(metrics["APl"])  # there are no large ones
    with pytest.raises(ConfigError, match="allow 10 or more"):
        evaluate(scene, max_detections=5)


def test_masks_rank_by_mask_scores(tmp_path):
    scene = Scene(tmp_path, [(0, 0, BOX)], [(0, 0, BOX, 0.2), (0, 0, (60, 60, 9, 9), 0.5)])
    for x, score in zip(scene.results, (0.9, 0.1), strict=True):
        x["mask_score"] = score
    scene.write()
    got = evaluate(scene)
    assert got["segm"]["AP"] == pytest.approx(100) and got["bbox"]["AP"] == pytest.approx(50)


def test_results_of_boxes_need_no_masks(tmp_path):
    scene = Scene(tmp_path, [(0, 0, BOX)], [(0, 0, BOX, 0.9)])
    del scene.content["annotations"][0]["segmentation"], scene.results[0]["segmentation"]
    scene.write()
    assert evaluate(scene)["bbox"]["AP"] == pytest.approx(100)


def test_without_results_metrics_are_zero(tmp_path):
    got = evaluate(Scene(tmp_path, [(0, 0, BOX)], []))
    assert {task: metrics["AP"] for task, metrics in got.items()} == {"bbox": 0, "segm": 0}


def test_lvis(tmp_path):
    pytest.importorskip("lvis")
    scene = Scene(tmp_path, [(0, 0, BOX)], [(0, 0, BOX, 0.5), (1, 0, BOX, 0.9), (1, 1, BOX, 0.9)])
    for i, x in enumerate(scene.content["images"]):
        x |= {"neg_category_ids": [1] if i else [], "not_exhaustive_category_ids": []}
        x["coco_url"] = f"http://host/val2017/{i}.jpg"
    for i, x in enumerate(scene.content["categories"], 1):
        x |= {"id": i, "frequency": "rcf"[i - 1]}
    for x in (*scene.content["annotations"], *scene.results):
        x["category_id"] //= 5
    scene.write()
    got = evaluate(scene)
    assert got["segm"]["APr"] == got["bbox"]["AP"] == pytest.approx(50)  # the cat is known not to be in image 1
    scene.content["categories"][0]["id"] = 7
    scene.content["annotations"][0]["category_id"] = 7
    scene.content["images"][1]["neg_category_ids"] = []
    scene.write()
    with pytest.raises(DataError, match=r"category ids are 1, 2, ...: renumber them"):
        evaluate(scene)


def test_predictions_of_predict_are_matched_by_name(tmp_path, caplog):
    scene = Scene(tmp_path, [(0, 1, BOX), (1, 0, BOX)], [])
    images = [{"id": i, "file_name": f"/data/photos/{i - 1}.png", "height": SIDE, "width": SIDE} for i in (2, 1, 3)]
    categories = [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]
    found = {"score": 0.5, "bbox": [*BOX], "segmentation": code(BOX)}
    annotations = [found | {"image_id": 1, "category_id": 1}, found | {"image_id": 2, "category_id": 2}]
    annotations.append(found | {"image_id": 3, "category_id": 1})  # of an image without ground truth
    content = {"images": images, "annotations": annotations, "categories": categories}
    scene.results_file.write_text(json.dumps(content))
    assert evaluate(scene)["segm"]["AP"] == pytest.approx(100) and "has no predictions of" not in caplog.text
    scene.results_file.write_text(json.dumps(content | {"images": images[:1], "annotations": annotations[1:2]}))
    assert evaluate(scene)["segm"]["AP"] < 60
    assert "has no predictions of 1 of the 2 images of the ground truth" in caplog.text
    content["categories"][0]["name"] = "horse"
    scene.results_file.write_text(json.dumps(content))
    with pytest.raises(DataError, match="has the class 'horse', which the ground truth lacks"):
        evaluate(scene)
    content["images"] = [x | {"file_name": "9.png"} for x in images]
    scene.results_file.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"none of the images of .* is in the ground truth"):
        evaluate(scene)


def test_polygons_of_predict_are_evaluated(tmp_path):
    scene = Scene(tmp_path, [(0, 1, BOX)], [])
    image = {"id": 1, "file_name": "0.png", "height": SIDE, "width": SIDE}
    categories = [{"id": 1, "name": "dog"}]
    found = {"score": 0.5, "bbox": [*BOX], "image_id": 1, "category_id": 1}
    for polygons, error in (
        (polygon(BOX), None),
        ([[1, 2, 3]], "has no mask"),
        ([[1, 2, 3, 4, 5, "a"]], "has no mask"),
    ):
        annotations = [found | {"segmentation": polygons}]
        content = {"images": [image], "annotations": annotations, "categories": categories}
        scene.results_file.write_text(json.dumps(content))
        if error is None:
            assert evaluate(scene)["segm"]["AP"] == pytest.approx(100)
        else:
            with pytest.raises(DataError, match=error):
                evaluate(scene)


def test_of_two_files_of_the_same_name_the_folder_decides():
    images = [{"id": i, "file_name": x, "height": SIDE, "width": SIDE} for i, x in enumerate(("1.png", "a/1.png"))]
    from centermask_solo.evaluation.results_file import _find_by_path

    files = {x["file_name"]: x["id"] for x in images}
    found = [_find_by_path(x, files) for x in ("/data/a/1.png", "/data/b/1.png", "C:\\data\\a\\1.png", "2.png")]
    assert found == [1, 0, 1, None]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"image_id": 99}, "result 1 has the image_id 99, which the ground truth lacks"),
        ({"image_id": [1]}, "result 1 has the image_id [1]"),
        ({"category_id": 7}, "result 1 has the category_id 7, which the ground truth lacks"),
        ({"score": "high"}, "result 1 lacks a usable score"),
        ({"score": float("nan")}, "result 1 lacks a usable score"),
        ({"bbox": [1, 2, 3]}, "result 1 lacks a usable bbox"),
        ({"segmentation": [[1, 2, 3, 4, 5, 6]]}, "result 1 has no mask as compressed run lengths"),
        ({"segmentation": {"size": [50, 50], "counts": "abc"}}, "result 1 has a mask of size [50, 50], but its image"),
        ({"segmentation": {"size": [SIDE, SIDE], "counts": "0"}}, "result 1 has damaged run lengths"),
        ({"segmentation": {"size": [SIDE, SIDE], "counts": "\x01\x02"}}, "result 1 has damaged run lengths"),
    ],
)
def test_faulty_results_are_named(tmp_path, change, message):
    scene = Scene(tmp_path, [(0, 0, BOX)], [(0, 0, BOX, 0.9), (0, 0, BOX, 0.8)])
    scene.results[1] |= change
    scene.write()
    with pytest.raises(DataError, match=re.escape(message)) as error:
        evaluate(scene)
    assert str(error.value).startswith(str(scene.results_file))


@pytest.mark.parametrize(
    "text, message",
    [
        ("[1]", "holds no results"),
        ('{"a": 1}', "holds no results"),
        ("[", "is not JSON, or truncated"),
        ("3", "holds no"),
    ],
)
def test_other_files_are_refused(tmp_path, text, message):
    scene = Scene(tmp_path, [(0, 0, BOX)], [])
    scene.results_file.write_text(text)
    with pytest.raises(DataError, match=message):
        evaluate(scene)
    scene.results_file.unlink()
    with pytest.raises(DataError, match="is missing"):
        evaluate(scene)


def test_numbers_as_json_has_them(tmp_path):
    """Whole scores and boxes are integers."""
    scene = Scene(tmp_path, [(0, 0, BOX)], [(0, 0, BOX, 1)])
    images = [x | {"file_name": "0.png"} for x in scene.content["images"]]
    results = read_results(str(scene.results_file), images, {"cat": 5, "dog": 10, "cow": 15})
    assert results.scores().tolist() == [1.0] and results.boxes().tolist() == [[10, 10, 20, 20]]


def test_panoptic_results(dataset, tmp_path):
    """Those that the evaluator writes have the same figures when they are read again."""
    half = panoptic([[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 0, 0]], (1, True, 1), (2, True, 1), (3, False, 1))
    evaluator = PanopticEvaluator(dataset, str(tmp_path / "out"))
    evaluator.process([{"image_id": 0}], [half])
    expected = evaluator.evaluate()
    assert 0 < expected["panoptic_seg"]["PQ"] < 100
    path = str(tmp_path / "out" / "predictions.json")
    assert evaluate_results(path, dataset=dataset) == expected
    assert evaluate_results(path, str(tmp_path / "panoptic.json"), str(tmp_path)) == expected
    with pytest.raises(ConfigError, match="give a panoptic json and the folder of its PNGs"):
        evaluate_results(path, str(tmp_path / "panoptic.json"))
    content = json.loads((tmp_path / "out" / "predictions.json").read_text())
    content["annotations"][0]["segments_info"][0]["category_id"] = 77
    (tmp_path / "out" / "predictions.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"has the category 77, which .* lacks"):
        evaluate_results(path, dataset=dataset)


def test_perfect_panoptic_results(dataset, tmp_path):
    evaluator = PanopticEvaluator(dataset, str(tmp_path / "out"))
    for i, output in enumerate(PERFECT):
        evaluator.process([{"image_id": i}], [output])
    expected = evaluator.evaluate()
    assert evaluate_results(str(tmp_path / "out" / "predictions.json"), dataset=dataset) == expected
    assert expected["panoptic_seg"]["PQ"] == 100 and len(CATEGORIES) == 2
