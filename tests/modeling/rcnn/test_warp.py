"""Warped regions against crops computed by hand, also beyond the image."""

import torch

from centermask_solo.modeling.rcnn.warp import warp_regions

# Pixel (y, x) of the only channel is 10 y + x + 1
IMAGE = (torch.arange(6.0)[:, None] * 10 + torch.arange(8.0) + 1)[None]


def warp(box, size, context):
    return warp_regions(IMAGE, torch.tensor([box], dtype=torch.float32), size, context)[0, 0]


def test_a_region_of_the_size_of_the_square_is_copied():
    torch.testing.assert_close(warp([2, 1, 6, 5], 4, 0), IMAGE[0, 1:5, 2:6])


def test_context_is_what_surrounds_the_region():
    """4 x 4 pixels fill the middle of a square of 6, so its border is one pixel of the image."""
    torch.testing.assert_close(warp([2, 1, 6, 5], 6, 1), IMAGE[0, 0:6, 1:7])


def test_context_beyond_the_image_is_zero():
    expected = torch.zeros(6, 6)
    expected[1:, 1:] = IMAGE[0, 0:5, 0:5]
    torch.testing.assert_close(warp([0, 0, 4, 4], 6, 1), expected)
    expected = torch.zeros(6, 6)
    expected[:5, :5] = IMAGE[0, 1:6, 3:8]
    torch.testing.assert_close(warp([4, 2, 8, 6], 6, 1), expected)


def test_both_sides_are_stretched_alike_whatever_the_aspect_ratio():
    """A region of 8 x 2 pixels becomes 4 x 4: columns are means of neighbors, rows are interpolated."""
    row = torch.tensor([1.5, 3.5, 5.5, 7.5])
    expected = torch.stack([row + y for y in (17.5, 22.5, 27.5, 32.5)])  # rows 2 and 3 at 1.75, 2.25, 2.75, 3.25
    torch.testing.assert_close(warp([0, 2, 8, 4], 4, 0), expected)


def test_context_grows_with_the_region():
    """16 of 32 pixels show the region: 8 on each side are half of its width, here 2 of 4 pixels."""
    wide = warp([2, 1, 6, 5], 32, 8)
    torch.testing.assert_close(wide, warp([0, -1, 8, 7], 32, 0))


def test_channels_and_regions_are_independent():
    image = torch.rand(3, 20, 30)
    boxes = torch.tensor([[1.0, 2, 9, 18], [-5.0, 3, 40, 9], [0.5, 0.5, 1.5, 1.5]])
    together = warp_regions(image, boxes, 8, 2)
    assert together.shape == (3, 3, 8, 8)
    for i in range(3):
        torch.testing.assert_close(together[i], warp_regions(image, boxes[i : i + 1], 8, 2)[0])
        torch.testing.assert_close(together[:, i], warp_regions(image[i : i + 1], boxes, 8, 2)[:, 0])


def test_no_regions():
    assert warp_regions(torch.rand(3, 5, 5), torch.zeros(0, 4), 8, 2).shape == (0, 3, 8, 8)
