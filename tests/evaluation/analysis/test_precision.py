"""Matching and average precision: equal to COCO's evaluator wherever that has the same figure."""

import json

import numpy as np
import pytest

from centermask_solo.evaluation.analysis.evaluated import evaluate_detections
from centermask_solo.evaluation.analysis.matching import THRESHOLDS, rank_in_cells
from centermask_solo.evaluation.analysis.summary import AP50, AP75
from centermask_solo.evaluation.backends import evaluate_coco
from centermask_solo.evaluation.ground_truth import read_ground_truth
from tests.evaluation.scenes import Scene, random_scene


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
@pytest.mark.parametrize("seed, max_detections", [(0, 100), (1, 100), (2, 3)])
def test_figures_equal_those_of_cocos_evaluator(tmp_path, seed, max_detections, iou_type):
    scene = random_scene(tmp_path, seed)
    annotated, detected = scene.read(iou_type)
    assert annotated.crowds.any() and len(np.unique(detected.scores)) < len(detected) / 4
    evaluated = evaluate_detections(annotated, detected, max_detections=max_detections)
    gt, results = read_ground_truth(str(scene.json_file)), json.loads(scene.results_file.read_text())
    coco = evaluate_coco("pycocotools", gt, results, iou_type, [1, 2, max_detections])
    groups = ["all", "small", "medium", "large"]
    assert [x.name for x in evaluated.groups[:4]] == groups
    for i in range(len(groups)):
        curves = evaluated.curves(i)
        expected = coco.eval["precision"][:, :, :, i, -1]
        got = np.nan_to_num(curves.precision, nan=-1)
        np.testing.assert_allclose(got, expected, atol=1e-12)
        np.testing.assert_allclose(np.nan_to_num(curves.recall, nan=-1), coco.eval["recall"][:, :, i, -1], atol=1e-12)
        np.testing.assert_allclose(np.nan_to_num(curves.scores, nan=-1), coco.eval["scores"][:, :, :, i, -1])
    curves, stats = evaluated.curves(), coco.stats
    np.testing.assert_allclose([curves.ap(), curves.ap(AP50), curves.ap(AP75)], 100 * stats[:3])
    assert 5 < curves.ap() < 95
    by_class = [100 * x[x > -1].mean() if (x > -1).any() else np.nan for x in coco.eval["precision"][..., 0, -1].T]
    np.testing.assert_allclose(curves.ap_by_class(), by_class)


def test_a_detection_finds_the_free_object_with_the_highest_iou(tmp_path):
    objects = [(0, 0, (10, 10, 20, 20)), (0, 0, (12, 10, 20, 20))]
    detections = [(0, 0, (10, 10, 20, 20), 0.6), (0, 0, (11, 10, 20, 20), 0.9), (0, 0, (10, 10, 20, 20), 0.3)]
    evaluated = evaluate_detections(*Scene(tmp_path, objects, detections).read())
    # The second one, which comes first, overlaps both alike, so that the last one wins
    assert evaluated.found_by.tolist() == [0, 1, -1]
    assert evaluated.outcome().found[0].tolist() == [True, True, False]
    np.testing.assert_array_equal(THRESHOLDS[evaluated.outcome().found[:, 1]], THRESHOLDS[THRESHOLDS <= 19 / 21])


def test_what_is_in_a_crowd_counts_as_nothing(tmp_path):
    objects = [(0, 0, (0, 0, 50, 50), True), (0, 0, (60, 60, 20, 20))]
    detections = [(0, 0, (10 * i, 0, 10, 10), 0.9) for i in range(4)] + [(0, 0, (60, 60, 20, 20), 0.5)]
    evaluated = evaluate_detections(*Scene(tmp_path, objects, detections).read())
    assert evaluated.outcome().ignored[0].tolist() == [True] * 4 + [False]
    assert evaluated.curves().ap() == pytest.approx(100)


def test_more_than_100_objects_of_an_image(tmp_path):
    boxes = [(6 * i, 6 * j, 5, 5) for i in range(16) for j in range(16)]
    objects, detections = [(0, 0, x) for x in boxes], [(0, 0, x, 0.5) for x in boxes]
    annotated, detected = Scene(tmp_path, objects, detections).read()
    limited = evaluate_detections(annotated, detected).curves()
    assert limited.recall[0, 0] == 100 / 256 and limited.ap() == pytest.approx(100 * 40 / 101)
    assert evaluate_detections(annotated, detected, max_detections=300).curves().ap() == pytest.approx(100)


def test_ranks_are_those_of_an_image_and_class():
    images, classes = np.array([0, 0, 0, 0, 1]), np.array([0, 1, 0, 0, 0])
    assert rank_in_cells(images, classes, np.array([0.1, 0.2, 0.3, 0.1, 0.5])).tolist() == [1, 0, 0, 2, 0]
    assert rank_in_cells(images[:0], classes[:0], np.zeros(0)).tolist() == []


def test_without_detections_or_objects(tmp_path):
    annotated, detected = Scene(tmp_path, [(0, 1, (0, 0, 10, 10))], []).read("segm")
    curves = evaluate_detections(annotated, detected).curves()
    assert curves.ap() == 0 and np.isnan(curves.ap_by_class()).tolist() == [True, False, True]
    annotated, detected = Scene(tmp_path, [], [(0, 1, (0, 0, 10, 10), 0.5)]).read()
    assert np.isnan(evaluate_detections(annotated, detected).curves().ap())
