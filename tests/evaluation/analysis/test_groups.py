"""Groups by crowding, and images that are not annotated for all classes."""

import json

import numpy as np
import pytest

from centermask_solo.evaluation.analysis.evaluated import evaluate_detections
from centermask_solo.evaluation.analysis.groups import find_crowding, make_groups
from centermask_solo.evaluation.analysis.overlaps import find_overlaps
from centermask_solo.utils.errors import DataError
from tests.evaluation.scenes import Scene, random_scene

BOX, TOUCHING, FAR = (10, 10, 20, 20), (20, 10, 20, 20), (70, 70, 10, 10)


def test_crowding_is_measured_by_the_other_objects(tmp_path):
    objects = [(0, 0, BOX), (0, 1, TOUCHING), (0, 0, FAR), (0, 2, (0, 0, 90, 90), True), (1, 0, BOX)]
    detections = [(0, 0, (11, 10, 20, 20), 0.9), (0, 0, FAR, 0.8), (1, 0, BOX, 0.9), (0, 0, (90, 0, 5, 5), 0.1)]
    annotated, detected = Scene(tmp_path, objects, detections).read()
    crowding = find_crowding(annotated, annotated)
    assert crowding.neighbors[[0, 1, 2, 4]].tolist() == [1, 1, 0, 0]
    np.testing.assert_allclose(crowding.overlap[[0, 1, 2, 4]], [200 / 600, 200 / 600, 0, 0])
    found = find_crowding(detected, annotated)
    order = np.lexsort((-detected.scores, detected.images))
    assert found.neighbors[order].tolist() == [1, 0, 0, 0]
    assert found.overlap[order][0] == pytest.approx(220 / 580)  # with the second object: its own is the first


def test_groups_divide_the_objects(tmp_path):
    annotated, detected = random_scene(tmp_path).read()
    groups = make_groups(annotated, detected)
    for names in (groups[4:7], groups[7:10]):
        for which in ("objects", "detections"):
            assert (sum(getattr(x, which).astype(int) for x in names) == 1).all()
    assert [x.name for x in groups[:2]] == ["all", "small"]


def test_ap_of_crowded_objects(tmp_path):
    """Of two objects that overlap one is found; the lonely one is found, beside a wrong detection."""
    objects = [(0, 0, BOX), (0, 0, TOUCHING), (1, 0, BOX)]
    detections = [(0, 0, BOX, 0.9), (1, 0, BOX, 0.8), (1, 0, FAR, 0.95)]
    evaluated = evaluate_detections(*Scene(tmp_path, objects, detections).read())
    ap = {x.name: evaluated.curves(i).ap() for i, x in enumerate(evaluated.groups)}
    assert ap["1 to 3 neighbors"] == ap["overlap above 0.3"] == pytest.approx(100 * 51 / 101)
    assert ap["0 neighbors"] == pytest.approx(50)  # the wrong detection is alone, too
    assert np.isnan(ap["4 and more neighbors"])


def lvis_scene(folder):
    """Random objects; in some images, classes are unknown or not exhaustively annotated."""
    scene = random_scene(folder, seed=3)
    for i, x in enumerate(scene.content["images"]):
        x |= {"neg_category_ids": [5, 10, 15][: i % 4], "not_exhaustive_category_ids": [5] if i % 3 == 0 else []}
        x["coco_url"] = f"http://host/val2017/{x.pop('file_name')}"
    for x in scene.content["categories"]:
        x["frequency"] = "f"
    scene.content["annotations"] = [x for x in scene.content["annotations"] if not x["iscrowd"]]
    scene.write()
    return scene


@pytest.mark.parametrize("limit", [300, 4])
def test_figures_equal_those_of_lvis(tmp_path, limit):
    lvis = pytest.importorskip("lvis")
    from centermask_solo.evaluation.lvis_api import evaluate_lvis

    scene = lvis_scene(tmp_path)
    expected = evaluate_lvis(lvis.LVIS(str(scene.json_file)), scene.results, "segm", limit)
    annotated, detected = scene.read()
    assert annotated.federation is not None
    evaluated = evaluate_detections(annotated, detected, max_detections=limit)
    assert 0 < evaluated.counted.sum() < len(detected)
    for i, name in enumerate(("AP", "APs", "APm", "APl")):
        value = 100 * expected[name] if expected[name] >= 0 else np.nan
        assert evaluated.curves(i).ap() == pytest.approx(value, rel=1e-9, nan_ok=True)
    assert evaluated.curves().ap(0) == pytest.approx(100 * expected["AP50"], rel=1e-9)


def test_unknown_classes_of_an_image_are_an_error(tmp_path):
    scene = lvis_scene(tmp_path)
    scene.content["images"][0]["neg_category_ids"] = [77]
    scene.json_file.write_text(json.dumps(scene.content))
    with pytest.raises(DataError, match=r"gt.json.*77"):
        scene.read()


def test_pairs_are_of_one_image_and_sorted(tmp_path):
    annotated, detected = random_scene(tmp_path).read()
    pairs = find_overlaps(annotated, detected)
    assert (annotated.images[pairs.gt] == detected.images[pairs.det]).all() and (pairs.iou >= 0.1).all()
    keys = pairs.det * len(annotated) + pairs.gt
    assert (np.diff(keys) > 0).all()
