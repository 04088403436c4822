"""Images are resized to Detectron2's pixels and batched as the models batch them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from detectron2.structures import ImageList

from centermask_solo.data.transforms.resize import ResizeShortestEdge
from centermask_solo.runtime.metadata import Resize
from centermask_solo.runtime.resizing import make_batches, resize, resized_shape
from tests.runtime.test_metadata import INPUT

RULE = replace(INPUT, channel_order="BGR", min_size=(1, 1))


def with_edges(short, long):
    return replace(RULE, resize=Resize(short, long, stretch=False))


@pytest.mark.parametrize("short, long", [(800, 1333), (448, 768), (0, 1333), (33, 40)])
@pytest.mark.parametrize("shape", [(480, 640), (640, 480), (1, 4000), (3000, 7), (333, 500), (64, 64), (799, 1332)])
def test_pixels_are_those_of_detectron2(short, long, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    expected = ResizeShortestEdge([short, short], long).get_transform(image).apply_image(image)
    np.testing.assert_array_equal(resize(image, with_edges(short, long)), expected)


def test_channels_are_in_the_order_of_the_model():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    rule = with_edges(0, 99)
    np.testing.assert_array_equal(resize(image, replace(rule, channel_order="RGB")), image[:, :, ::-1])
    np.testing.assert_array_equal(resize(image, rule), image)


@pytest.mark.parametrize("shape", [(480, 640), (100, 900), (900, 100), (10, 10), (321, 447)])
def test_images_fit_into_a_fixed_size_and_keep_their_ratio(shape):
    rule = replace(with_edges(300, 600), size=(320, 448))
    height, width = resized_shape(shape, rule)
    assert height <= 320 and width <= 448
    assert abs(height / width - shape[0] / shape[1]) < 0.02 * shape[0] / shape[1] + 1 / width


def test_models_of_fixed_size_stretch():
    stretch = replace(RULE, resize=Resize(0, 0, stretch=True))
    assert resized_shape((480, 640), stretch) == (480, 640)  # in the graph
    assert resized_shape((480, 640), replace(stretch, size=(550, 550))) == (550, 550)


def test_batches_are_of_one_padded_size_each():
    rng = np.random.default_rng(0)
    shapes = [(64, 60), (100, 31), (61, 64), (64, 64), (97, 32)]
    images = [rng.integers(1, 256, (*s, 3), dtype=np.uint8) for s in shapes]
    batches = make_batches(images, RULE)
    assert sorted(i for batch in batches for i in batch.indices) == [0, 1, 2, 3, 4]
    for batch in batches:
        padded = {tuple(ImageList.from_tensors([torch.empty(3, *shapes[i])], 32).tensor.shape) for i in batch.indices}
        assert len(padded) == 1
        for row, i in enumerate(batch.indices):
            height, width = shapes[i]
            assert batch.sizes[row].tolist() == [height, width]
            np.testing.assert_array_equal(batch.images[row, :height, :width], images[i])
            assert not batch.images[row, height:].any() and not batch.images[row, :, width:].any()
    assert [b.indices for b in batches] == [[0, 2, 3], [1, 4]]
    assert batches[0].images.shape == (3, 64, 64, 3) and batches[1].images.shape == (2, 100, 32, 3)


def test_small_images_get_the_least_size_of_the_graph():
    image = np.ones((10, 20, 3), np.uint8)
    (batch,) = make_batches([image], replace(RULE, min_size=(129, 65)))
    assert batch.images.shape == (1, 129, 65, 3) and batch.sizes.tolist() == [[10, 20]]
