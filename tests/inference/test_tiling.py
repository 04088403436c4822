"""Tiles cover an image, and what lies in several of them is one instance."""

import tracemalloc
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch

from centermask_solo.inference.tiling import TiledPredictor, Tiles
from centermask_solo.structures.compact_masks import RLEMasks
from centermask_solo.utils.errors import ConfigError
from tests.inference.colors import ColorPredictor

RED, GREEN, BLUE = (1, 40, 200), (1, 200, 40), (2, 20, 20)  # BGR; the first two are of one class


def tiled(size=100, overlap=0.2):
    return TiledPredictor(ColorPredictor(), Tiles(size, overlap))


def truth(image, color):
    return torch.from_numpy((image == color).all(axis=2))


def ious(found, image, *colors):
    """The IoU of the best instance for each color."""
    return [
        max(float((mask & truth(image, c)).sum() / (mask | truth(image, c)).sum()) for mask in found.pred_masks)
        for c in colors
    ]


@pytest.mark.parametrize(("length", "size"), [(1, 100), (100, 100), (101, 100), (180, 100), (181, 100), (10_000, 1024)])
@pytest.mark.parametrize("overlap", [0.01, 0.2, 0.5, 0.99])
def test_tiles_cover_the_image_and_overlap_enough(length, size, overlap):
    tiles = Tiles(size, overlap).of(length, 7)
    assert tiles[0][1] == 0 and tiles[-1][3] == length
    for (_, a0, _, a1), (_, b0, _, b1) in pairwise(tiles):
        assert a0 < b0 and a1 - a0 == b1 - b0 == min(size, length)
        assert a1 - b0 >= overlap * size - 0.5


@pytest.mark.parametrize(("size", "overlap"), [(0, 0.2), (100, 0.0), (100, 1.0), (100, -0.1)])
def test_impossible_tiles_are_an_error(size, overlap):
    with pytest.raises(ConfigError, match="are impossible: give a size of 1 or more"):
        Tiles(size, overlap)


def test_an_object_over_four_tiles_is_one_instance():
    image = np.zeros((180, 180, 3), np.uint8)
    cv2.circle(image, (90, 90), 60, RED, -1)
    predictor = tiled()
    assert len(Tiles(100, 0.2).of(180, 180)) == 4
    found = predictor.predict_image(image, batch_size=3)
    assert predictor._predictor.batches == [3, 1]
    assert len(found) == 1 and ious(found, image, RED)[0] == 1.0
    assert isinstance(found.pred_masks, RLEMasks)
    assert found.pred_boxes.tensor.tolist() == [[30, 30, 151, 151]]
    assert found.pred_classes.tolist() == [1] and found.scores[0] == pytest.approx(0.5 + 40 / 512)


def test_objects_in_one_overlap_stay_apart_and_keep_their_classes():
    """Two of one class side by side across a seam, one of another class, and one that is whole in the overlap."""
    image = np.zeros((100, 260, 3), np.uint8)
    image[10:50, 40:150], image[50:90, 60:200], image[0:8, 82:95], image[92:99, 130:250] = RED, GREEN, BLUE, (3, 1, 1)
    found = tiled().predict_image(image)
    assert len(found) == 4
    assert ious(found, image, RED, GREEN, BLUE, (3, 1, 1)) == [1.0] * 4
    assert sorted(found.pred_classes.tolist()) == [1, 1, 2, 3]
    assert (found.scores.diff() <= 0).all()


def test_a_model_that_is_wrong_at_the_borders_still_gives_one_instance():
    """Each tile sees the outer 6 pixels of its parts wrongly."""

    class Sloppy(ColorPredictor):
        def _find(self, image, threshold):
            return super()._find(cv2.erode(image, np.ones((7, 7), np.uint8)), threshold)

    image = np.zeros((180, 180, 3), np.uint8)
    cv2.circle(image, (90, 90), 80, RED, -1)
    found = TiledPredictor(Sloppy(), Tiles(100, 0.4)).predict_image(image)
    eroded = cv2.erode(image, np.ones((7, 7), np.uint8))
    assert len(found) == 1 and ious(found, eroded, RED)[0] >= 0.95


def test_nothing_boxes_and_small_images():
    assert len(tiled().predict_image(np.zeros((250, 250, 3), np.uint8))) == 0
    image = np.zeros((20, 30, 3), np.uint8)
    image[5:9, 5:9] = RED
    assert len(tiled().predict_image(image)) == 1

    class Boxes(ColorPredictor):
        def _find(self, image, threshold):
            found = super()._find(image, threshold)
            found.remove("pred_masks")
            return found

    image = np.zeros((180, 180, 3), np.uint8)
    image[40:150, 30:140] = RED
    found = TiledPredictor(Boxes(), Tiles(100, 0.2)).predict_image(image)
    assert found.pred_boxes.tensor.tolist() == [[30, 40, 140, 150]]


def test_files_are_read_and_thresholds_obeyed(tmp_path):
    image = np.zeros((120, 150, 3), np.uint8)
    image[:60], image[70:] = RED, GREEN
    cv2.imwrite(str(tmp_path / "a.png"), image)
    (tmp_path / "b.png").write_bytes(b"damaged")
    failures = []
    paths = [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    ((path, pixels, output),) = tiled().predict_files(paths, failures=failures, score_threshold=0.7)
    assert path == paths[0] and np.array_equal(pixels, image) and "b.png" in str(failures[0])
    assert len(output["instances"]) == 1 and ious(output["instances"], image, GREEN) == [1.0]


def test_the_memory_does_not_grow_with_the_image():
    """Beyond it: as a mask, an object as large as the image takes 4 MB, and its parts 6 MB."""

    def peak(side):
        image = np.zeros((side, side, 3), np.uint8)
        image[side // 8 : -side // 8, side // 8 : -side // 8] = RED
        predictor = tiled(256)
        predictor.predict_image(image[:300, :300])  # what is loaded once
        tracemalloc.start()
        assert len(predictor.predict_image(image)) == 1
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    assert peak(2048) < 1.2 * peak(1024) < 4_000_000
