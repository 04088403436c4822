"""Tiles cover an image, and what lies in several of them is one instance."""

import tracemalloc
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from detectron2.modeling import META_ARCH_REGISTRY

from centermask_solo.inference.predictor import Predictor
from centermask_solo.inference.tiling import TiledPredictor, Tiles
from centermask_solo.structures.compact_masks import RLEMasks
from centermask_solo.utils.errors import ConfigError, DataError
from tests.inference.colors import ColorPredictor
from tests.training.tiny import TinyModel, tiny_cfg, write_dataset

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


@pytest.mark.parametrize(
    ("size", "overlap"), [(0, 0.2), (100, 0.0), (100, 1.0), (100, -0.1), ("9", 0.2), (9.5, 0.2), (9, "x")]
)
def test_impossible_tiles_are_an_error(size, overlap):
    with pytest.raises(ConfigError, match="are impossible: give a size of 1 or more"):
        Tiles(size, overlap)


@pytest.mark.parametrize("batch_size", [0, -1, "2"])
def test_impossible_batches_are_an_error(batch_size):
    with pytest.raises(ConfigError, match="tiles per forward pass are impossible: give 1 or more"):
        next(tiled().predict_files(["absent.png"], batch_size))
    with pytest.raises(ConfigError, match="tiles per forward pass are impossible: give 1 or more"):
        tiled().predict_image(np.zeros((9, 9, 3), np.uint8), batch_size)


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


class Recording(TinyModel):
    """Records what each image of a batch is."""

    def forward(self, inputs):
        self.seen = [*getattr(self, "seen", []), *(x["image"] for x in inputs)]
        return super().forward(inputs)


@pytest.fixture
def predictor(tmp_path, monkeypatch):
    """Makes a predictor of a model for a number of channels that records its inputs, each as large as the image."""
    write_dataset(tmp_path / "data", num_images=1)
    monkeypatch.setitem(META_ARCH_REGISTRY._obj_map, "TinyModel", Recording)

    def make(channels):
        cfg = tiny_cfg(tmp_path / "data", tmp_path / "model")
        cfg.INPUT.CHANNELS, cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = channels, [0.0] * channels, [1.0] * channels
        cfg.INPUT.MIN_SIZE_TEST, cfg.MODEL.WEIGHTS = 32, str(tmp_path / "model" / "weights.pth")
        torch.save({"model": Recording(cfg).state_dict(), "thing_classes": ["cow", "horse"]}, cfg.MODEL.WEIGHTS)
        return Predictor(cfg, mask_format="compact")

    return make


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "channels"),
    [
        *(("a.npy", (50, 60), np.uint8, 1), ("a.npy", (50, 60, 1), np.uint16, 1), ("a.npy", (50, 60, 5), np.uint8, 5)),
        *(("a.npy", (5, 50, 60), np.float32, 5), ("a.npy", (50, 60, 5), np.uint16, 5), ("a.npy", (50, 60), float, 3)),
        *(("a.tif", (50, 60), np.uint16, 1), ("a.tif", (50, 60), np.uint16, 3), ("a.png", (50, 60, 4), np.uint8, 4)),
        *(("a.png", (50, 60, 4), np.uint8, 3), ("a.png", (50, 60, 4), np.uint8, 1)),
    ],
)
def test_tiles_of_any_channels_are_parts_of_the_image_as_the_model_sees_it(
    tmp_path, predictor, name, shape, dtype, channels
):
    """Of a dark image with one bright corner, whose scale the other tiles do not know."""
    path, high = tmp_path / name, np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
    pixels = (np.random.default_rng(0).random(shape) * high / 300).astype(dtype)
    pixels.reshape(-1)[-1] = high
    np.save(path, pixels) if name.endswith("npy") else cv2.imwrite(str(path), pixels)
    whole = predictor(channels)
    expected = torch.as_tensor(whole.read(str(path)).astype(np.float32)).permute(2, 0, 1)
    tiles = Tiles(32, 0.2)
    ((_, shown, _),) = TiledPredictor(whole, tiles).predict_files([str(path)])
    assert shown.shape == (50, 60, 3) and shown.dtype == np.uint8
    assert len(whole.model.seen) == 6
    for (x0, y0, x1, y1), seen in zip(tiles.of(50, 60), whole.model.seen, strict=True):
        assert torch.equal(seen, expected[:, y0:y1, x0:x1])


def test_other_channels_are_refused_with_tiles_as_without(tmp_path, predictor):
    np.save(tmp_path / "a.npy", np.zeros((50, 60, 5), np.uint8))
    whole = predictor(1)
    for x in (whole, TiledPredictor(whole, Tiles(32, 0.2))):
        with pytest.raises(DataError, match=r"a\.npy has 5 channels, but INPUT.CHANNELS is 1"):
            list(x.predict_files([str(tmp_path / "a.npy")]))


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
