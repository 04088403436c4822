"""Boundary IoU of rectangles, counted by hand."""

import numpy as np
import pytest
from pycocotools import mask as rle

from centermask_solo.evaluation.analysis import overlaps
from centermask_solo.evaluation.analysis.evaluated import by_boundaries, evaluate_detections
from centermask_solo.evaluation.analysis.overlaps import boundary, boundary_overlaps, boundary_width, find_overlaps
from centermask_solo.structures.rle_codes import window_iou
from tests.evaluation.scenes import Scene, code, random_scene


def test_the_width_is_a_fiftieth_of_the_diagonal():
    assert boundary_width(480, 640) == 16
    assert boundary_width(100, 100) == 3  # 2.83
    assert boundary_width(10, 10) == 1


@pytest.mark.parametrize("width, pixels", [(1, 2 * 20 + 2 * 8), (3, 20 * 10 - 14 * 4), (5, 200), (9, 200)])
def test_the_boundary_of_a_rectangle_is_a_frame(width, pixels):
    found = boundary(code((30, 40, 20, 10)), width)
    assert (found.left, found.top) == (30, 40)
    assert np.count_nonzero(found.pixels) == pixels
    assert found.pixels[:width].all() and found.pixels[:, -width:].all()


def test_the_edge_of_the_image_is_a_boundary_too():
    assert np.count_nonzero(boundary(code((0, 0, 100, 100)), 3).pixels) == 100**2 - 94**2


def test_holes_have_a_boundary():
    mask = np.ones((100, 100), np.uint8, order="F")
    mask[40:60, 40:60] = 0
    found = boundary(rle.encode(mask), 2)
    assert np.count_nonzero(found.pixels) == 100**2 - 96**2 + 24**2 - 20**2


def test_iou_of_boundaries(tmp_path):
    """Both 60 x 60, shifted by one pixel: frames that are 3 pixels wide."""
    annotated, detected = Scene(tmp_path, [(0, 0, (20, 20, 60, 60))], [(0, 0, (21, 20, 60, 60), 0.5)]).read()
    pairs = find_overlaps(annotated, detected)
    assert pairs.iou.tolist() == [59 / 61]
    frame = 60**2 - 54**2
    # Shared: the horizontal parts in 59 columns, less nothing; of the vertical ones 2 of 3 columns, in 54 rows
    shared = 2 * 3 * 59 + 2 * 2 * 54
    assert boundary_overlaps(annotated, detected, pairs).iou.tolist() == [shared / (2 * frame - shared)]


def test_small_objects_keep_their_mask_iou(tmp_path):
    annotated, detected = Scene(tmp_path, [(0, 0, (20, 20, 6, 6))], [(0, 0, (21, 20, 6, 6), 0.5)]).read()
    pairs = find_overlaps(annotated, detected)
    assert boundary_overlaps(annotated, detected, pairs).iou.tolist() == pairs.iou.tolist() == [5 / 7]


def test_objects_without_an_inner_part_are_left_out_without_effect(tmp_path, monkeypatch):
    annotated, detected = random_scene(tmp_path).read()
    pairs = find_overlaps(annotated, detected)
    got = boundary_overlaps(annotated, detected, pairs).iou
    computed = []
    monkeypatch.setattr(overlaps, "_short_sides", lambda x: np.full(len(x), np.inf))  # of all pairs
    monkeypatch.setattr(overlaps, "window_iou", lambda *x: computed.append(window_iou(*x)) or computed[-1])
    np.testing.assert_array_equal(got, boundary_overlaps(annotated, detected, pairs).iou)
    assert len(computed) == len(pairs.det) and 0 < np.count_nonzero(got < pairs.iou) < len(got)


def test_boundaries_equal_erosion_pixel_by_pixel(tmp_path):
    """Against the definition: pixels with a pixel outside of the mask, or of the image, within the distance."""
    rng = np.random.default_rng(0)
    mask = np.asfortranarray((rng.random((40, 50)) < 0.97).astype(np.uint8))
    padded = np.pad(mask, 2)
    inner = np.all([padded[i : i + 40, j : j + 50] for i in range(5) for j in range(5)], axis=0)
    found = boundary(rle.encode(mask), 2)
    whole = np.zeros(mask.shape, bool)
    h, w = found.pixels.shape
    whole[found.top : found.top + h, found.left : found.left + w] = found.pixels
    np.testing.assert_array_equal(whole, mask.astype(bool) & ~inner)


def test_boundary_ap_is_at_most_mask_ap(tmp_path):
    evaluated = evaluate_detections(*random_scene(tmp_path).read())
    boundaries = by_boundaries(evaluated).curves()
    assert 0 < boundaries.ap() <= evaluated.curves().ap()
    perfect = Scene(tmp_path, [(0, 0, (5, 5, 70, 70))], [(0, 0, (5, 5, 70, 70), 0.5)])
    assert by_boundaries(evaluate_detections(*perfect.read())).curves().ap() == pytest.approx(100)
