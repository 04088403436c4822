"""Kinds of errors, oracles, confusion, calibration and the choice of images, computed by hand."""

import numpy as np
import pytest
from pycocotools import mask as rle

from centermask_solo.evaluation.analysis.calibration import calibrate, calibration_of
from centermask_solo.evaluation.analysis.confusion import assign_by_iou, by_threshold, confuse
from centermask_solo.evaluation.analysis.errors import KINDS, MISSED, costs, find_errors
from centermask_solo.evaluation.analysis.evaluated import evaluate_detections
from centermask_solo.evaluation.analysis.oracles import MEANINGS, oracles, with_masks_in_true_boxes
from centermask_solo.evaluation.analysis.overlaps import MIN_IOU, Pairs
from centermask_solo.evaluation.analysis.worst import confident_mistakes, image_quality
from tests.evaluation.scenes import Scene, random_scene

CAT, DOG = 0, 1
A, B, C = (0, 0, 20, 20), (40, 0, 20, 20), (0, 60, 20, 20)
SHIFTED = (10, 0, 20, 20)  # IoU 1/3 with A
NEARBY = (18, 0, 20, 20)  # IoU below 0.1 with A
ELSEWHERE = (70, 70, 10, 10)


def evaluated(folder, objects, detections):
    return evaluate_detections(*Scene(folder, objects, detections).read())


def kinds(found):
    errors = find_errors(found)
    return [KINDS[k] if k >= 0 else "" for k in errors.kind.tolist()], errors


def test_each_kind(tmp_path):
    objects = [(0, CAT, A), (0, CAT, B), (1, DOG, A), (2, DOG, A), (3, CAT, C)]
    detections = [
        (0, CAT, A, 0.9),
        (0, CAT, A, 0.8),
        (0, CAT, NEARBY, 0.7),
        (0, CAT, ELSEWHERE, 0.6),
        (1, CAT, A, 0.9),
        (2, CAT, SHIFTED, 0.9),
        (2, DOG, SHIFTED, 0.5),
    ]
    found, errors = kinds(evaluated(tmp_path, objects, detections))
    assert found == ["", "duplicate", "background", "background", "classification", "both", "localization"]
    assert errors.counts() == {
        "localization": 1,
        "classification": 1,
        "duplicate": 1,
        "both": 1,
        "background": 2,
        MISSED: 2,  # B and C: the other two are concerned by a localization and a classification error
    }
    assert errors.gt.tolist() == [-1, 0, -1, -1, 2, 3, 3]
    assert np.flatnonzero(errors.missed).tolist() == [1, 4]


def test_detections_in_crowds_are_no_errors(tmp_path):
    objects = [(0, CAT, (0, 0, 50, 50), True), (0, DOG, ELSEWHERE)]
    found, errors = kinds(evaluated(tmp_path, objects, [(0, CAT, A, 0.9), (0, DOG, A, 0.9)]))
    assert found == ["", "background"] and errors.missed.tolist() == [False, True]


def ap_of(*outcomes, objects):
    """AP in percent of detections, by descending score, that are right or not."""
    hits, precision = np.cumsum(outcomes), np.zeros(101)
    for i, right in enumerate(outcomes):
        if right:
            reached = np.arange(101) <= 100 * hits[i] / objects + 1e-9
            precision[reached] = np.maximum(precision[reached], hits[i] / (i + 1))
    return 100 * precision.mean()


def test_costs_of_a_localization_error(tmp_path):
    """The better one of two detections, shifted, would find A; the other one finds it and would be a duplicate."""
    objects = [(0, CAT, A), (0, CAT, B)]
    found = evaluated(tmp_path, objects, [(0, CAT, SHIFTED, 0.9), (0, CAT, A, 0.8), (0, CAT, B, 0.7)])
    before = ap_of(False, True, True, objects=2)
    won = costs(found, find_errors(found))
    assert won["localization"] == won["false positives"] == pytest.approx(100 - before)
    assert won["classification"] == won["background"] == won[MISSED] == won["false negatives"] == 0


def test_costs_of_a_classification_error(tmp_path):
    objects = [(0, CAT, A), (0, DOG, B)]
    found = evaluated(tmp_path, objects, [(0, DOG, A, 0.9), (0, DOG, B, 0.8)])
    before = (0 + ap_of(False, True, objects=1)) / 2
    won = costs(found, find_errors(found))
    assert won["classification"] == pytest.approx(100 - before)
    assert won["false positives"] == pytest.approx(50 - before)  # the cat stays missed
    assert won["false negatives"] == pytest.approx(ap_of(False, True, objects=1) - before)  # only the dogs are left
    assert won[MISSED] == 0


def test_costs_of_duplicates_background_and_missed_objects(tmp_path):
    objects = [(0, CAT, A), (0, CAT, B), (0, CAT, C)]
    detections = [(0, CAT, A, 0.9), (0, CAT, A, 0.8), (0, CAT, ELSEWHERE, 0.7), (0, CAT, B, 0.6)]
    found = evaluated(tmp_path, objects, detections)
    before = ap_of(True, False, False, True, objects=3)
    won = costs(found, find_errors(found))
    assert won["duplicate"] == won["background"] == pytest.approx(ap_of(True, False, True, objects=3) - before)
    assert won["false positives"] == pytest.approx(ap_of(True, True, objects=3) - before)
    assert won[MISSED] == pytest.approx(ap_of(True, False, False, True, objects=2) - before)


@pytest.mark.parametrize("seed", [0, 5])
def test_errors_equal_those_of_hotcoco(tmp_path, seed):
    hotcoco = pytest.importorskip("hotcoco")
    scene = random_scene(tmp_path, seed, wrong=80)
    scene.content["annotations"] = [x for x in scene.content["annotations"] if not x["iscrowd"]]
    scene.write()  # without crowds, of which nothing is published
    gt = hotcoco.COCO(str(scene.json_file))
    theirs = hotcoco.COCOeval(gt, gt.load_res(str(scene.results_file)), "segm")
    theirs.evaluate()
    expected = theirs.tide_errors()
    found = evaluate_detections(*scene.read())
    errors = find_errors(found)
    names = {"Loc": "localization", "Cls": "classification", "Dupe": "duplicate", "Both": "both", "Bkg": "background"}
    names |= {"Miss": MISSED}
    assert min(errors.counts()[x] for x in ("localization", "classification", "duplicate", "both")) > 0
    assert errors.counts() == {names[key]: value for key, value in expected["counts"].items()}
    won = costs(found, errors)
    names |= {"FP": "false positives", "FN": "false negatives"}
    for key in ("Dupe", "Both", "Bkg", "Miss", "FP", "FN"):
        assert won[names[key]] == pytest.approx(100 * expected["delta_ap"][key], abs=1e-6), key


def test_oracles(tmp_path):
    """A: right but shifted, below a detection of nothing; B: right mask, wrong class; C: missed."""
    objects = [(0, CAT, A), (0, DOG, B), (0, CAT, C)]
    shifted = (1, 0, 20, 20)  # IoU 19/21: right up to the threshold 0.9
    found = evaluated(tmp_path, objects, [(0, CAT, ELSEWHERE, 0.9), (0, CAT, shifted, 0.8), (0, CAT, B, 0.7)])
    cats = ap_of(False, True, objects=2)
    assert found.curves().ap() == pytest.approx(0.9 * cats / 2)
    got = {name: x.ap() for name, x in oracles(found, 100).items()}
    assert got["true classes"] == pytest.approx((0.9 * cats + 100) / 2)
    assert got["true masks"] == pytest.approx(cats / 2)
    assert got["perfect ranking"] == pytest.approx(0.9 * ap_of(True, objects=2) / 2)
    assert got["true classes and masks"] == pytest.approx((cats + 100) / 2)
    assert list(got) == list(MEANINGS["segm"])


def cut_by_hand(found):
    """The masks inside of the boxes of the objects that they overlap most, as pixels, and their IoUs with all."""
    annotated, detected = found.annotated, found.detected
    objects, masks = (rle.decode(x.codes).transpose(2, 0, 1).astype(bool) for x in (annotated, detected))
    ious = np.zeros((2, len(masks), len(objects)))
    for i, mask in enumerate(masks):
        same = (annotated.images == detected.images[i]) & ~annotated.crowds
        own = [(iou(mask, objects[k]), k) for k in np.flatnonzero(same & (annotated.classes == detected.classes[i]))]
        best = max(own, default=(0, -1))
        cut = np.zeros_like(mask)
        if best[0] >= 0.1:
            rows, columns = objects[best[1]].any(1).nonzero()[0], objects[best[1]].any(0).nonzero()[0]
            cut[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
        for k in np.flatnonzero(annotated.images == detected.images[i]):
            for column, shown in zip(ious, (mask, mask & cut if cut.any() else mask), strict=True):
                column[i, k] = iou(shown, objects[k], annotated.crowds[k])
    return ious


def iou(mask, target, crowd=False):
    return (mask & target).sum() / max(mask.sum() if crowd else (mask | target).sum(), 1)


@pytest.mark.parametrize("seed", range(3))
def test_masks_are_cut_to_true_boxes(tmp_path, seed):
    found = evaluate_detections(*random_scene(tmp_path, seed).read())
    before, expected = cut_by_hand(found)
    detected, pairs = with_masks_in_true_boxes(found, (found.detected, found.pairs))
    table = np.zeros_like(expected)
    table[pairs.det, pairs.gt] = pairs.iou
    np.testing.assert_allclose(table, np.where(expected >= MIN_IOU, expected, 0), atol=1e-12)
    assert 10 < (expected > before + 1e-9).sum() < 200 and ((before >= MIN_IOU) & (expected < MIN_IOU)).any()
    assert [x["counts"] for x in detected.codes] != [x["counts"] for x in found.detected.codes]
    assert oracles(found, 100)["true boxes"].ap() > found.curves().ap()


def test_a_true_box_removes_what_is_outside_and_adds_nothing(tmp_path):
    """Of A, 10 columns more are detected; of B, 10 rows more, but 5 columns and a row less; the dog is hit on the way.

    The annotated box of B is larger than B, which does not count.
    """
    objects = [(0, CAT, A), (0, CAT, B), (0, DOG, (20, 0, 10, 20))]
    scene = Scene(tmp_path, objects, [(0, CAT, (0, 0, 30, 20), 0.9), (0, CAT, (40, 1, 15, 29), 0.8)])
    scene.content["annotations"][1]["bbox"] = [30, 0, 40, 40]
    scene.write()
    found = evaluate_detections(*scene.read())
    both, first = ap_of(True, True, objects=2), ap_of(True, objects=2)
    assert found.curves().ap() == pytest.approx((first * 3 + both) / 10 / 2)  # 2/3: 0.5 to 0.65; 285/550: 0.5
    true = oracles(found, 100)["true boxes"]
    assert true.ap() == pytest.approx((both * 5 + first * 5) / 10 / 2)  # 1; 285/400: 0.5 to 0.7
    _, pairs = with_masks_in_true_boxes(found, (found.detected, found.pairs))
    assert (pairs.det.tolist(), pairs.gt.tolist()) == ([0, 1], [0, 1])
    assert pairs.iou == pytest.approx([1, 285 / 400])


def test_true_boxes_of_boxes(tmp_path):
    """Each box becomes that of its object: its place among the scores is all that is lost."""
    scene = Scene(tmp_path, [(0, CAT, A), (0, DOG, B)], [(0, CAT, ELSEWHERE, 0.9), (0, CAT, SHIFTED, 0.8)])
    found = evaluate_detections(*scene.read("bbox"))
    got = {name: x.ap() for name, x in oracles(found, 100).items()}
    assert list(got) == list(MEANINGS["bbox"]) and not any("mask" in x for x in MEANINGS["bbox"].values())
    assert found.curves().ap() == 0
    assert got["true boxes"] == got["true classes and boxes"] == pytest.approx(ap_of(False, True, objects=1) / 2)


def test_perfect_ranking_gives_the_recall_that_is_possible(tmp_path):
    found = evaluate_detections(*random_scene(tmp_path).read())
    assert oracles(found, 100)["perfect ranking"].ap() >= found.curves().ap()


def test_confusion(tmp_path):
    """The cat's own detection comes first although another one overlaps it more."""
    objects = [(0, CAT, A), (0, DOG, B), (1, DOG, C), (1, CAT, (50, 50, 40, 40), True)]
    detections = [
        (0, DOG, A, 0.9),
        (0, CAT, (1, 0, 20, 20), 0.8),
        (0, CAT, B, 0.7),
        (1, DOG, C, 0.2),
        (1, CAT, ELSEWHERE, 0.9),
    ]
    found = evaluated(tmp_path, objects, detections)
    assert confuse(found, 0.5).matrix.tolist() == [
        [1, 0, 0, 0],
        [1, 0, 0, 1],
        [0, 0, 0, 0],
        [0, 1, 0, 0],  # of background: the dog on the cat; what is in the crowd counts as nothing
    ]
    assert confuse(found, 0.0).matrix[1].tolist() == [1, 1, 0, 0]


def test_pairs_are_assigned_by_iou():
    pairs = Pairs(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), np.array([0.6, 0.7, 0.5, 0.9]))
    assigned = assign_by_iou(pairs)
    assert assigned.det.tolist() == [0, 1] and assigned.gt.tolist() == [0, 1]


def test_figures_by_score_threshold(tmp_path):
    objects = [(0, CAT, A), (0, CAT, B), (0, DOG, C)]
    detections = [(0, CAT, A, 0.9), (0, CAT, ELSEWHERE, 0.5), (0, CAT, B, 0.5), (0, DOG, A, 0.1)]
    found = evaluated(tmp_path, objects, detections)
    everything = by_threshold(found)
    assert everything.scores.tolist() == [0.9, 0.5, 0.1]
    np.testing.assert_allclose(everything.precision, [1, 2 / 3, 1 / 2])
    np.testing.assert_allclose(everything.recall, [1 / 3, 2 / 3, 2 / 3])
    assert everything.best_score() == 0.5
    assert by_threshold(found, CAT).recall.tolist() == [0.5, 1]
    assert by_threshold(found, 2).best_score() == 0.5  # of a class without detections


def test_calibration(tmp_path):
    right = np.array([1, 0, 1, 1, 0])
    found = calibration_of(np.array([0.9, 0.9, 0.95, 0.25, 0.2]), right.astype(float))
    assert found.counts.tolist() == [0, 0, 2, 0, 0, 0, 0, 0, 0, 3]
    assert found.precision[2] == 0.5 and found.precision[9] == pytest.approx(2 / 3)
    assert found.score[2] == pytest.approx(0.225) and np.isnan(found.score[0])
    assert found.error == pytest.approx((2 * 0.275 + 3 * (2.75 / 3 - 2 / 3)) / 5)
    objects = [(0, CAT, A), (0, CAT, (50, 50, 40, 40), True)]
    scene = evaluated(tmp_path, objects, [(0, CAT, A, 1.0), (0, CAT, ELSEWHERE, 0.7), (0, CAT, B, 0.0)])
    assert calibrate(scene).error == 0 and calibrate(scene).counts.sum() == 2


def test_worst_images_and_confident_mistakes(tmp_path):
    objects = [(0, CAT, A), (1, CAT, A), (1, CAT, B), (2, CAT, A)]
    detections = [(0, CAT, A, 0.9), (1, CAT, A, 0.9), (1, DOG, B, 0.95), (2, CAT, ELSEWHERE, 0.8)]
    detections += [(2, DOG, ELSEWHERE, 0.85), (2, CAT, C, 0.7), (3, CAT, A, 0.1)]
    found = evaluated(tmp_path, objects, detections)
    quality = image_quality(found, confuse(found, 0.5))
    assert quality.found.tolist() == [1, 1, 0, 0]
    assert quality.wrong.tolist() == [0, 1, 3, 0] and quality.missed.tolist() == [0, 1, 1, 0]
    np.testing.assert_allclose(quality.quality, [1, 1 / 2, 0, np.nan])
    assert quality.worst(10) == [2, 1]
    mistakes = confident_mistakes(found, find_errors(found), 10)
    assert found.detected.scores[mistakes].tolist() == [0.95, 0.85, 0.8, 0.1]  # at most two of an image
    assert confident_mistakes(found, find_errors(found), 1) == mistakes[:1]
