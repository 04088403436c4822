"""Masks are pasted as the models paste them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detectron2.layers.mask_ops import paste_masks_in_image

from centermask_solo.ops.masks import axis_resize
from centermask_solo.runtime.metadata import Masks
from centermask_solo.runtime.pasting import Paster, input_axis, interpolation, mask_box

FROM_INPUT = Masks(frame="input", stride=4, threshold=0.5, whole_boxes=False, boxes=True)
FROM_BOX = Masks(frame="box", stride=0, threshold=0.5, whole_boxes=False, boxes=False)


def blobs(number, size, seed=0):
    """Smooth masks, (number, *size) float32 in 0..1."""
    noise = torch.randn(number, 1, *(max(2, n // 5) for n in size), generator=torch.Generator().manual_seed(seed))
    return F.interpolate(3 * noise, size, mode="bilinear").sigmoid()[:, 0]


@pytest.mark.parametrize("size, output", [(7, 7), (7, 20), (20, 7), (138, 550), (1, 9), (9, 1), (33, 100)])
def test_interpolation_is_that_of_pytorch(size, output):
    expected = F.interpolate(torch.eye(size)[None], output, mode="linear", align_corners=False)[0].T
    np.testing.assert_allclose(interpolation(size, output), expected.numpy(), atol=2e-5)  # positions are rounded


@pytest.mark.parametrize(
    "size, output, stride, used", [(20, 97, 4, 70), (20, 80, 4, 80), (25, 50, 4, 99), (30, 7, 0, 30)]
)
def test_axes_are_those_of_the_models(size, output, stride, used):
    expected = axis_resize(size, output, torch.device("cpu"), scale=stride or 1, crop=used if stride else None)
    found = input_axis(size, output, stride, used)
    np.testing.assert_allclose(found.weights, expected.weights.numpy(), atol=2e-5)


@pytest.mark.parametrize("image, output", [((150, 230), (300, 460)), ((160, 240), (160, 240)), ((97, 201), (480, 997))])
@pytest.mark.parametrize("stride", [4, 0])
def test_masks_of_the_input(image, output, stride):
    probabilities = blobs(4, (40, 60))
    probabilities[1, :, 30:] = 0
    probabilities[2] = 0.4
    kind = Masks(frame="input", stride=stride, threshold=0.5, whole_boxes=False, boxes=True)
    used = image if stride else (40, 60)
    paste = Paster(kind, (40, 60), image, output)
    full = probabilities[:, None]
    if stride:
        full = F.interpolate(full, scale_factor=4, mode="bilinear")[:, :, : used[0], : used[1]]
    full = F.interpolate(full, output, mode="bilinear")[:, 0] if full.shape[2:] != output else full[:, 0]
    for x, expected in zip(probabilities.numpy(), full.numpy(), strict=True):
        found = paste(x, None)
        sure = np.abs(expected - 0.5) > 1e-5
        np.testing.assert_array_equal(found[sure], (expected > 0.5)[sure])
    assert not paste(probabilities[2].numpy(), None).any()


@pytest.mark.parametrize(
    "box",
    [
        [10.3, 20.7, 60.2, 50.1],
        [0, 0, 90, 70],
        [-20.5, -10.0, 30.4, 40.0],
        [70.0, 50.0, 120.0, 90.0],
        [5.0, 5.0, 5.4, 5.2],
    ],
)
def test_masks_of_boxes(box):
    probabilities = blobs(3, (28, 28), seed=1)
    size = (70, 90)
    boxes = torch.tensor([box] * 3)
    scores = torch.stack([paste_masks_in_image(probabilities, boxes, size, t) for t in (0.5 - 1e-5, 0.5 + 1e-5)])
    paste = Paster(FROM_BOX, (28, 28), size, size)
    for i, x in enumerate(probabilities.numpy()):
        found = paste(x, np.array(box, np.float32))
        low, high = scores[:, i].numpy()
        assert found.shape == size
        assert not (high & ~found).any() and not (found & ~low).any()


@pytest.mark.parametrize("box", [[200.0, 10.0, 210.0, 20.0], [30.0, 30.0, 30.0, 40.0], [-9.0, -9.0, -5.0, 9.0]])
def test_boxes_outside_of_the_image_or_without_area_have_no_pixels(box):
    found = Paster(FROM_BOX, (28, 28), (70, 90), (70, 90))(np.ones((28, 28), np.float32), np.array(box, np.float32))
    assert found.shape == (70, 90) and not found.any()


def test_boxes_of_masks():
    mask = np.zeros((10, 20), bool)
    assert mask_box(mask) == (0, 0, 0, 0)
    mask[3:5, 7:19] = True
    assert mask_box(mask) == (7, 3, 19, 5)
