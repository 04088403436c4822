"""Resampled images: equal to the evaluation of a dataset in which images occur several times."""

import copy

import numpy as np
import pytest

from centermask_solo.evaluation.analysis.bootstrap import WeightedAP, bootstrap, interval
from centermask_solo.evaluation.analysis.evaluated import evaluate_detections
from tests.evaluation.scenes import Scene, random_scene


def copies(scene, weights):
    """The files of a scene whose images occur as often as ``weights`` say."""
    found = copy.copy(scene)
    content = scene.content
    images, annotations, results = [], [], []
    for image, weight in zip(content["images"], weights, strict=True):
        for _ in range(weight):
            number = 1000 + len(images)
            images.append(image | {"id": number})
            for source, target in ((content["annotations"], annotations), (scene.results, results)):
                target += [x | {"image_id": number} for x in source if x["image_id"] == image["id"]]
    found.content = content | {"images": images}
    found.content["annotations"] = [x | {"id": i} for i, x in enumerate(annotations, 1)]
    found.results = results
    found.write()
    return found


@pytest.mark.parametrize("seed", [0, 1])
def test_weights_equal_copies_of_images(tmp_path, seed):
    scene = random_scene(tmp_path, seed, num_images=8)
    for i, x in enumerate(scene.results):  # of equal scores, the order of copies is another one
        x["score"] += i * 1e-6
    scene.write()
    evaluated = evaluate_detections(*scene.read())
    weighted = WeightedAP(evaluated)
    assert weighted(np.ones(8, dtype=np.int64)) == pytest.approx(evaluated.curves().ap(), rel=1e-12)
    rng = np.random.default_rng(seed)
    for _ in range(5):
        weights = np.bincount(rng.integers(8, size=8), minlength=8)
        expected = evaluate_detections(*copies(scene, weights.tolist()).read()).curves().ap()
        assert weighted(weights) == pytest.approx(expected, rel=1e-9)


def test_samples_are_the_same_for_both_models(tmp_path):
    evaluated = evaluate_detections(*random_scene(tmp_path).read())
    samples = bootstrap([evaluated, evaluated], 20)
    assert samples.shape == (20, 2) and (samples[:, 0] == samples[:, 1]).all() and np.ptp(samples[:, 0]) > 0
    assert (bootstrap([evaluated], 20)[:, 0] == samples[:, 0]).all()
    assert (bootstrap([evaluated], 20, seed=1)[:, 0] != samples[:, 0]).any()


def test_an_image_that_decides_everything(tmp_path):
    """Of two images with one object each one is right: AP is 0, 51/101 or 1 with probabilities 1/4, 1/2, 1/4."""
    box = (0, 0, 20, 20)
    scene = Scene(tmp_path, [(0, 0, box), (1, 0, box)], [(0, 0, box, 0.9)])
    samples = bootstrap([evaluate_detections(*scene.read())], 400)[:, 0]
    values, counts = np.unique(samples.round(6), return_counts=True)
    np.testing.assert_allclose(values, [0, 100 * 51 / 101, 100], atol=1e-6)
    assert 70 < counts[0] < 130 and 70 < counts[2] < 130


def test_intervals():
    found = interval(5.0, np.append(np.arange(1001) / 10, np.nan))
    assert found == pytest.approx((5.0, 2.5, 97.5))
    assert np.isnan(interval(5.0, np.array([np.nan]))[1:]).all()
