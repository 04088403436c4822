from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from detectron2.structures import BitMasks

from centermask_solo.ops import masks as ops
from centermask_solo.ops.host_reads import avoiding_host_reads
from centermask_solo.ops.masks import (
    axis_resize,
    batch_mask_iou,
    extents_to_boxes,
    mask_intersections,
    mask_iou,
    mask_windows,
    masks_to_boxes,
    reduce_masks,
    resize_and_threshold_,
)
from tests.counting import CountedFloats
from tests.host_reads import HostReads
from tests.oracles import ops as oracles


def random_masks(seed, count=9, height=13, width=7, density=0.4):
    return torch.rand(count, height, width, generator=torch.Generator().manual_seed(seed)) < density


def blobs(seed, count, height, width):
    """Smooth probabilities (count, height, width), of objects of all sizes anywhere, some cut by the border."""
    rng = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    cy, cx = (torch.rand(count, 1, 1, generator=rng) * n for n in (height, width))
    radius = torch.rand(count, 1, 1, generator=rng) ** 2 * max(height, width)
    return torch.sigmoid((radius - ((y - cy) ** 2 + (x - cx) ** 2).sqrt()) * 1.5)


@pytest.fixture(params=["int8", "float32"])
def number(request, monkeypatch):
    """Both ways to count pixels, whatever this processor prefers."""
    monkeypatch.setattr(ops, "cpu_multiplies_int8", lambda: request.param == "int8")


@pytest.mark.usefixtures("number")
@pytest.mark.parametrize("density", [0.02, 0.4, 1.0])
def test_mask_iou_equals_that_of_sets(density):
    masks = random_masks(0, density=density)
    expected = oracles.mask_iou(masks)
    torch.testing.assert_close(mask_iou(masks).double(), expected)
    torch.testing.assert_close(mask_iou(masks.transpose(1, 2)).double(), expected)  # not contiguous
    for few_rows in (masks, masks[:, :3]):
        both = torch.stack([few_rows, few_rows.flip(0)])
        expected = oracles.mask_iou(few_rows)
        torch.testing.assert_close(batch_mask_iou(both).double(), torch.stack([expected, expected.flip(0, 1)]))


@pytest.mark.usefixtures("number")
def test_pairs_of_different_classes_have_no_iou():
    masks, classes = random_masks(2), torch.tensor([5, 0, 5, 5, 2, 0, 9, 5, 2])
    same = classes[:, None] == classes
    assert torch.equal(mask_iou(masks, classes), mask_iou(masks) * same)
    assert mask_iou(masks[:0], classes[:0]).shape == (0, 0)
    with avoiding_host_reads(), HostReads(limit=0):
        without_reads = mask_iou(masks, classes)
    assert torch.equal(without_reads * same, mask_iou(masks) * same)


@pytest.mark.usefixtures("number")
def test_large_intersections_are_exact():
    masks = torch.ones(2, 1301, 1303, dtype=torch.bool)
    masks[1, 0, :3] = False
    assert mask_intersections(masks).tolist() == [[1301 * 1303, 1301 * 1303 - 3]] * 1 + [[1301 * 1303 - 3] * 2]


@pytest.mark.usefixtures("number")
def test_empty_masks_overlap_nothing():
    masks = torch.zeros(3, 4, 4, dtype=torch.bool)
    masks[1] = True
    assert mask_iou(masks).tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert mask_iou(masks[:0]).shape == (0, 0)
    assert mask_iou(masks[:, :0]).tolist() == [[0] * 3] * 3


@pytest.mark.usefixtures("number")
def test_intersections_do_not_depend_on_the_chunks(monkeypatch):
    masks = random_masks(1, 20, 30, 31)
    whole = mask_intersections(masks)
    for chunk_bytes in (4, 400, 4 * 7777):
        monkeypatch.setattr("centermask_solo.ops.chunks.CHUNK_BYTES", chunk_bytes)
        assert torch.equal(mask_intersections(masks), whole)
    with torch.autocast("cpu", dtype=torch.bfloat16):  # which would round counts above 256
        assert torch.equal(mask_intersections(torch.ones(2, 40, 40, dtype=torch.bool)), torch.full((2, 2), 1600.0))


@pytest.mark.parametrize("seed", range(3))
def test_boxes_are_tight_and_end_exclusively(seed):
    masks = random_masks(seed, 40, 9, 17, density=0.02)
    assert not masks[masks.flatten(1).sum(1).argmin()].any()
    boxes = BitMasks(masks).get_bounding_boxes().tensor
    assert torch.equal(masks_to_boxes(masks), boxes)
    assert torch.equal(extents_to_boxes(masks.any(dim=1), masks.any(dim=2)), boxes)


def test_boxes_by_hand():
    masks = torch.zeros(3, 5, 8, dtype=torch.bool)
    masks[0, 2, 3] = True
    masks[1] = True
    assert masks_to_boxes(masks).tolist() == [[3, 2, 4, 3], [0, 0, 8, 5], [0, 0, 0, 0]]
    assert masks_to_boxes(masks[:0]).shape == (0, 4)
    assert masks_to_boxes(torch.zeros(2, 0, 5, dtype=torch.bool)).tolist() == [[0] * 4] * 2


@pytest.mark.parametrize(
    ("size", "scale", "crop", "output"),
    [(9, 4, 33, 33), (9, 4, 33, 20), (9, 4, 33, 71), (9, 4, 36, 5), (1, 4, 3, 8), (7, 1, None, 19), (7, 1, None, 1)],
)
def test_an_axis_is_resized_as_torch_does(size, scale, crop, output):
    values = torch.rand(1, 1, size, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(values, scale_factor=scale, mode="linear", align_corners=False)[..., :crop]
    expected = F.interpolate(expected, output, mode="linear", align_corners=False)[0, 0]
    axis = axis_resize(size, output, torch.device("cpu"), scale=scale, crop=crop)
    torch.testing.assert_close(axis.weights @ values[0, 0], expected)
    assert axis.first == sorted(axis.first)
    assert axis.last == sorted(axis.last)


def test_what_an_output_pixel_reads():
    axis = axis_resize(4, 8, torch.device("cpu"))  # output i reads around (i + 0.5) / 2 - 0.5
    assert list(zip(axis.first, axis.last, strict=True)) == [
        (0, 0), (0, 1), (0, 1), (1, 2), (1, 2), (2, 3), (2, 3), (3, 3)
    ]  # fmt: skip
    assert axis.reached_by(1, 2) == (1, 5)
    assert axis.sources(3, 5) == slice(1, 3)
    cropped = axis_resize(8, 8, torch.device("cpu"), scale=4, crop=8)
    start, stop = cropped.reached_by(5, 8)
    assert start >= stop  # beyond the crop nothing is read


WAYS = {"read": nullcontext, "not read": avoiding_host_reads}
SIZES = [
    ((24, 36), (93, 139), (93, 139)),
    ((24, 36), (93, 139), (47, 300)),
    ((24, 36), (96, 144), (20, 31)),
    ((70, 100), (278, 397), (278, 397)),  # several tiles
    ((5, 3), (17, 9), (800, 2)),
]


@pytest.mark.parametrize(("size", "image_size", "output_size"), SIZES)
@pytest.mark.parametrize("where", WAYS.values(), ids=WAYS)
def test_only_windows_are_resized_and_nothing_is_missed(monkeypatch, size, image_size, output_size, where):
    """The same masks as from whole images, whether each mask has its own window or groups of them are whole."""
    monkeypatch.setattr("centermask_solo.ops.chunks.CHUNK_BYTES", 4 * 8 * 256 * 256)
    probabilities = blobs(3, 10, *size)
    expected = F.interpolate(probabilities[None], scale_factor=4, mode="bilinear", align_corners=False)
    expected = expected[..., : image_size[0], : image_size[1]]
    expected = F.interpolate(expected, output_size, mode="bilinear", align_corners=False)[0]
    for threshold in (0.5, 0.2):
        masks = torch.zeros(10, *output_size, dtype=torch.bool)
        with where():
            rows, columns = (
                axis_resize(n, out, torch.device("cpu"), scale=4, crop=crop)
                for n, out, crop in zip(size, output_size, image_size, strict=True)
            )
            resize_and_threshold_(masks, probabilities, rows, columns, threshold)
        clear = (expected - threshold).abs() > 1e-5
        assert torch.equal(masks[clear], (expected > threshold)[clear])
        assert clear.float().mean() > 0.999
        assert masks.any()


@pytest.mark.parametrize("where", WAYS.values(), ids=WAYS)
def test_masks_without_a_pixel_stay_empty(where):
    probabilities = torch.full((5, 6, 6), 0.5)
    probabilities[2, 0, 5] = 0.9  # beyond the crop
    with where():
        rows, columns = (axis_resize(6, 10, torch.device("cpu"), scale=4, crop=10) for _ in range(2))
        masks = torch.zeros(5, 10, 10, dtype=torch.bool)
        resize_and_threshold_(masks, probabilities, rows, columns, 0.5)
        assert not masks.any()
        resize_and_threshold_(masks[:0], probabilities[:0], rows, columns, 0.5)


def test_resizing_without_reads(monkeypatch):
    """On a GPU groups of masks are resized whole, in bounded memory, and no number is read on the host."""
    probabilities, groups = torch.rand(200, 200, 336), []
    original = ops.AxisResize.reached_by
    monkeypatch.setattr(ops.AxisResize, "reached_by", lambda *args: groups.append(args[1:]) or original(*args))
    with avoiding_host_reads(), HostReads(limit=0):
        rows, columns = axis_resize(200, 80, torch.device("cpu")), axis_resize(336, 130, torch.device("cpu"))
        resize_and_threshold_(torch.zeros(200, 80, 130, dtype=torch.bool), probabilities, rows, columns, 0.5)
    assert groups == [(0, 336), (0, 200)] * 4  # 64 masks at a time


@pytest.mark.parametrize(("size", "image_size", "output_size"), SIZES)
def test_without_reads_the_pixels_that_are_read_are_bounded(size, image_size, output_size):
    for n, crop, out in zip(size, image_size, output_size, strict=True):
        exact = axis_resize(n, out, torch.device("cpu"), scale=4, crop=crop)
        with avoiding_host_reads():
            bounds = axis_resize(n, out, torch.device("cpu"), scale=4, crop=crop)
        assert torch.equal(bounds.weights, exact.weights)
        for name, sign in (("first", 1), ("last", -1)):
            got, expected = getattr(bounds, name), getattr(exact, name)
            assert all(0 <= sign * (y - x) <= 3 for x, y in zip(got, expected, strict=True)), name


def test_windows_have_every_pixel_of_their_masks():
    masks = random_masks(3, 12, 30, 40, density=0.003)
    masks[5] = False
    windows = torch.zeros_like(masks)
    for window in mask_windows(masks):
        windows[window] = True
    assert not (masks & ~windows).any()
    assert torch.equal(masks_to_boxes(windows), masks_to_boxes(masks))  # and they are tight
    assert list(mask_windows(masks.to("meta"))) == [(slice(0, 12), slice(0, 30), slice(0, 40))]


def test_only_pixels_around_objects_are_reduced():
    masks = torch.zeros(60, 300, 400, dtype=torch.bool)
    for i, mask in enumerate(masks):
        mask[4 * i : 4 * i + 8, 6 * i : 6 * i + 9] = True
    with CountedFloats() as counted:
        reduced = reduce_masks(masks, (75, 100))
    assert reduced.flatten(1).any(1).all()
    assert counted.numbers < masks.numel() / 3  # most of them for the two axes


@pytest.mark.parametrize("size", [(6, 3), (5, 4), (20, 9), (13, 7)])
def test_reduced_masks_are_interpolated_and_thresholded(size, monkeypatch):
    masks = random_masks(0)
    expected = F.interpolate(masks[:, None].float(), size, mode="bilinear", align_corners=False)[:, 0] > 0.5
    for chunk_bytes in (2**25, 4, 4 * 3 * 13 * 7):
        monkeypatch.setattr("centermask_solo.ops.chunks.CHUNK_BYTES", chunk_bytes)
        assert torch.equal(reduce_masks(masks, size), expected)
    assert reduce_masks(masks[:0], size).shape == (0, *size)
