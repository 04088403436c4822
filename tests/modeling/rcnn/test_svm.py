"""SVMs with mined negatives on toy data, and box regression that recovers what was put in."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("sklearn")

from centermask_solo.modeling.rcnn.svm import EASY, NEVER, MinedSVM, SVMOptions, fit_ridge

OPTIONS = SVMOptions(c=1.0, positive_weight=2.0, max_negatives=1000, retrain_after=50)


def around(center, count, seed, spread=0.3):
    return np.random.default_rng(seed).normal(center, spread, (count, 2)).astype(np.float32)


def test_mining_finds_the_negatives_that_matter():
    """Most negatives are far away; those of the second batch are near, and move the boundary between."""
    positives, far, near = around((4, 4), 40, 0), around((-6, -6), 60, 1), around((2, 2), 60, 2)
    svm = MinedSVM(positives, OPTIONS)
    svm.mine(far)
    assert svm.rounds == 1 and (svm.margins(near) > 0).mean() > 0.9  # nothing has said that these are negatives
    svm.mine(near)
    svm.train()
    assert svm.rounds >= 2
    assert (svm.margins(positives) > 0).all() and (svm.margins(near) < 0).all() and (svm.margins(far) < EASY).all()
    held = svm.negatives
    assert 0 < len(held) < 60 and (held.sum(axis=1) > 0).all()  # the far ones have been dropped, as has what is easy
    assert (svm.margins(held) >= EASY).all()


def test_easy_negatives_are_not_taken():
    svm = MinedSVM(around((4, 4), 40, 0), OPTIONS)
    svm.mine(around((-6, -6), 60, 1))
    before, rounds = len(svm.negatives), svm.rounds
    svm.mine(around((-9, -9), 500, 2))
    svm.train()
    assert (len(svm.negatives), svm.rounds) == (before, rounds)


def test_memory_is_limited_to_the_hardest():
    positives, near = around((1, 1), 40, 0, 1.0), around((0, 0), 200, 2, 1.0)  # which overlap
    svm = MinedSVM(positives, replace(OPTIONS, max_negatives=10))
    svm.mine(near)
    held = svm.negatives
    assert len(held) == 10
    np.testing.assert_allclose(np.sort(svm.margins(held)), np.sort(svm.margins(near))[-10:])


def test_a_weight_for_positives_moves_the_boundary():
    positives, negatives = around((1, 1), 20, 0, 1.0), around((0, 0), 200, 1, 1.0)
    found = []
    for weight in (1.0, 20.0):
        svm = MinedSVM(positives, SVMOptions(0.1, weight, 1000, 50))
        svm.mine(negatives)
        found.append((svm.margins(positives) > 0).mean())
    assert found[0] + 0.2 < found[1]


def test_a_class_without_objects_is_never_seen():
    svm = MinedSVM(np.zeros((0, 2), np.float32), OPTIONS)
    svm.mine(around((0, 0), 100, 0))
    svm.train()
    assert svm.rounds == 0 and (svm.margins(around((0, 0), 9, 1)) == NEVER).all()


def test_a_class_without_negatives_keeps_what_it_has():
    svm = MinedSVM(around((0, 0), 3, 0), OPTIONS)
    svm.train()
    assert svm.rounds == 0 and not svm.weight.any()


def test_ridge_recovers_known_offsets():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 6)).astype(np.float32)
    weights, bias = rng.normal(size=(4, 6)), np.array([0.1, -0.2, 0.3, 0.0])
    targets = (features @ weights.T + bias).astype(np.float32)
    found, found_bias = fit_ridge(features, targets, 1e-3)
    np.testing.assert_allclose(found, weights, atol=1e-3)
    np.testing.assert_allclose(found_bias, bias, atol=1e-3)
    strong, strong_bias = fit_ridge(features, targets, 1e9)
    np.testing.assert_allclose(strong, 0, atol=1e-5)  # only the mean is left
    np.testing.assert_allclose(strong_bias, targets.mean(axis=0), atol=1e-3)


def test_ridge_solves_the_normal_equations():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(30, 5)).astype(np.float32), rng.normal(size=(30, 4)).astype(np.float32)
    centered, targets = x - x.mean(axis=0), y - y.mean(axis=0)
    expected = np.linalg.solve(centered.T @ centered + 7 * np.eye(5), centered.T @ targets).T
    np.testing.assert_allclose(fit_ridge(x, y, 7.0)[0], expected, atol=1e-4)


def test_ridge_without_regions_moves_nothing():
    weight, bias = fit_ridge(np.zeros((0, 3), np.float32), np.zeros((0, 4), np.float32), 1.0)
    assert weight.shape == (4, 3) and not weight.any() and not bias.any()
