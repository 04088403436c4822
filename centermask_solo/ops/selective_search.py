"""Selective search: boxes of an image that may hold an object, by grouping segments that look alike."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..utils.errors import MissingPackageError

Floats = NDArray[np.float32]

# Color spaces, and sizes k of the segments, which are also their least numbers of pixels. "fast" is the paper's fast
# mode, "single" a quarter of it, for small images; each groups with and without the similarity of colors.
MODES = {
    "fast": ((cv2.COLOR_RGB2HSV, cv2.COLOR_RGB2LAB), (50, 100)),
    "single": ((cv2.COLOR_RGB2HSV,), (50,)),
}
SMOOTHING = 0.8  # standard deviation of the Gaussian before segmentation, pixels
COLOR_BINS = 25  # per channel
ORIENTATIONS, TEXTURE_BINS = 8, 10  # of derivatives, per channel
MIN_SIDE = 4  # pixels; smaller boxes hold no object


@cache
def uses_opencv() -> bool:
    """Return whether OpenCV is its contrib build, whose selective search is used where it is installed."""
    return hasattr(getattr(cv2, "ximgproc", None), "segmentation")


def describe_search(mode: str) -> str:
    """Return how :func:`selective_search` finds boxes here, for the files that hold them.

    Raises:
        MissingPackageError: Nothing that can is installed.
    """
    if uses_opencv():
        return f"selective search, {mode} mode, OpenCV {cv2.__version__}"
    return f"selective search, {mode} mode, on segments of scikit-image {_import_skimage().__version__}"


def selective_search(image: NDArray[np.uint8], mode: str = "fast") -> Floats:
    """Return boxes that may hold an object, (R, 4) float32 as x0 y0 x1 y1, the most promising first.

    OpenCV's contrib build computes them where it is installed, otherwise :func:`group_segments`.

    Args:
        image: (H, W, 3) uint8, RGB.
        mode: One of :data:`MODES`.

    Raises:
        MissingPackageError: Neither OpenCV's contrib build nor scikit-image is installed.

    Source: J. Uijlings et al., "Selective Search for Object Recognition", IJCV 2013.
    """
    return _opencv_search(image, mode) if uses_opencv() else group_segments(image, mode)


def _opencv_search(image: NDArray[np.uint8], mode: str) -> Floats:
    ximgproc: Any = vars(cv2)["ximgproc"]
    search = ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(np.ascontiguousarray(image[:, :, ::-1]))
    if mode == "single":
        search.switchToSingleStrategy(MODES[mode][1][0])
    else:
        search.switchToSelectiveSearchFast()
    rectangles = np.asarray(search.process(), np.float32).reshape(-1, 4)  # x y width height
    return np.concatenate([rectangles[:, :2], rectangles[:, :2] + rectangles[:, 2:]], axis=1)


def group_segments(image: NDArray[np.uint8], mode: str = "fast") -> Floats:
    """Return what :func:`selective_search` does, by this package's own implementation; arguments as there.

    Raises:
        MissingPackageError: scikit-image is not installed.

    Source: Uijlings et al., sections 3 and 4; the segments are those of Felzenszwalb and Huttenlocher, IJCV 2004.
    """
    felzenszwalb = _import_skimage().segmentation.felzenszwalb
    spaces, scales = MODES[mode]
    boxes, ranks = [], []
    rng = np.random.default_rng(0)  # the same boxes in the same order in every run
    for space in spaces:
        pixels = cv2.cvtColor(image, space).astype(np.uint8, copy=False)
        looks = describe_pixels(pixels)
        for scale in scales:
            labels = felzenszwalb(pixels, scale=scale, sigma=SMOOTHING, min_size=scale)
            segments = describe_segments(looks, labels)
            for with_color in (True, False):
                found = np.stack([*group(segments, labels.size, with_color)])[::-1]  # the whole image first
                boxes.append(found)
                ranks.append(np.arange(1, len(found) + 1) * rng.random(len(found)))
    order = np.argsort(np.concatenate(ranks), kind="stable")
    ordered = np.concatenate(boxes)[order]
    ordered = ordered[(ordered[:, 2:] - ordered[:, :2]).min(axis=1) >= MIN_SIDE]
    _, first = np.unique(ordered, axis=0, return_index=True)
    return ordered[np.sort(first)].astype(np.float32)


class Looks(NamedTuple):
    """The bin of each pixel in the histograms of its segment, one column per channel."""

    colors: NDArray[np.int64]  # (H * W, 3)
    textures: NDArray[np.int64]  # (H * W, 24)


def describe_pixels(pixels: NDArray[np.uint8]) -> Looks:
    """Return the bins of colors and of textures: positive parts of Gaussian derivatives in 8 directions.

    Args:
        pixels: (H, W, 3) uint8, in the color space that is compared.
    """
    smooth = cv2.GaussianBlur(pixels.astype(np.float32), (0, 0), 1.0)
    difference = np.array([[-1.0, 0, 1.0]])  # twice the derivative: a step over the whole range gives about 100
    across = cv2.filter2D(smooth, -1, difference, borderType=cv2.BORDER_REPLICATE)
    down = cv2.filter2D(smooth, -1, difference.T, borderType=cv2.BORDER_REPLICATE)
    angles = np.arange(ORIENTATIONS) * (2 * np.pi / ORIENTATIONS)
    derivatives = np.concatenate([np.clip(np.cos(x) * across + np.sin(x) * down, 0, None) for x in angles], axis=2)
    return Looks(_bins(pixels.astype(np.float32), COLOR_BINS), _bins(derivatives, TEXTURE_BINS))


def _bins(values: Floats, bins: int) -> NDArray[np.int64]:
    """Return the bin of each value of 0..255, those of a channel after those of the channel before."""
    channels = values.shape[-1]
    found = np.minimum(values * (bins / 256), bins - 1).astype(np.int64)
    return (found + np.arange(channels) * bins).reshape(-1, channels)


@dataclass(frozen=True)
class Segments:
    """What grouping needs to know of n segments.

    Attributes:
        boxes: (n, 4) int64, x0 y0 x1 y1.
        sizes: (n,) float32, pixels.
        colors: (n, 75) float32, histograms that sum to 1.
        textures: (n, 240) float32, likewise.
        neighbors: For each segment those that it touches.
    """

    boxes: NDArray[np.int64]
    sizes: Floats
    colors: Floats
    textures: Floats
    neighbors: list[set[int]]


def describe_segments(looks: Looks, labels: NDArray[np.int64]) -> Segments:
    """Return the segments of an image.

    Args:
        looks: Of its pixels.
        labels: (H, W), the number of the segment of each pixel, from 0 on without gaps.
    """
    n = int(labels.max()) + 1
    rows, columns = np.indices(labels.shape)
    boxes = np.empty((n, 4), np.int64)
    for i, positions in enumerate((columns, rows)):
        low, high = np.full(n, labels.size), np.zeros(n, np.int64)
        np.minimum.at(low, labels, positions)
        np.maximum.at(high, labels, positions)
        boxes[:, i], boxes[:, i + 2] = low, high + 1
    neighbors: list[set[int]] = [set() for _ in range(n)]
    for one, other in ((labels[:, 1:], labels[:, :-1]), (labels[1:], labels[:-1])):
        touching = np.unique(np.stack([one[one != other], other[one != other]], axis=1), axis=0)
        for a, b in touching.tolist():
            neighbors[a].add(b)
            neighbors[b].add(a)
    return Segments(
        boxes=boxes,
        sizes=np.bincount(labels.ravel(), minlength=n).astype(np.float32),
        colors=_histograms(looks.colors, labels, 3 * COLOR_BINS, n),
        textures=_histograms(looks.textures, labels, 3 * ORIENTATIONS * TEXTURE_BINS, n),
        neighbors=neighbors,
    )


def _histograms(bins: NDArray[np.int64], labels: NDArray[np.int64], num_bins: int, n: int) -> Floats:
    """Return the histogram of each segment, all channels together: (n, num_bins), whose sums are 1."""
    places = labels.reshape(-1, 1) * num_bins + bins
    counts = np.bincount(places.ravel(), minlength=n * num_bins).reshape(n, num_bins)
    return (counts / counts.sum(axis=1, keepdims=True)).astype(np.float32)


def group(segments: Segments, num_pixels: int, with_color: bool) -> Iterator[NDArray[np.int64]]:
    """Yield the boxes of the segments, and of every group in the order in which they form: 2n - 1 arrays (4,).

    The two most similar neighbors become one group, until the whole image is one.

    Args:
        segments: What is grouped.
        num_pixels: Of the image.
        with_color: Whether the similarity of colors counts, besides those of texture, size and fill.
    """
    n = len(segments.sizes)
    histograms = [segments.textures, *([segments.colors] if with_color else [])]
    looks = np.concatenate(histograms, axis=1)
    looks = np.concatenate([looks, np.empty((n - 1, looks.shape[1]), np.float32)])
    boxes = np.concatenate([segments.boxes, np.empty((n - 1, 4), np.int64)])
    sizes = np.concatenate([segments.sizes, np.empty(n - 1, np.float32)])
    neighbors = [set(x) for x in segments.neighbors]

    def similarities(i: int, others: list[int]) -> Floats:
        common = np.minimum(looks[i], looks[others]).sum(axis=1)  # intersections of both histograms
        low, high = np.minimum(boxes[i, :2], boxes[others, :2]), np.maximum(boxes[i, 2:], boxes[others, 2:])
        both, around = sizes[i] + sizes[others], (high - low).prod(axis=1)
        return common + (1 - both / num_pixels) + (1 - (around - both) / num_pixels)

    queue: list[tuple[float, int, int]] = []
    for i in range(n):
        yield boxes[i]
        later = sorted(x for x in neighbors[i] if x > i)
        if later:
            queue += zip((-similarities(i, later)).tolist(), [i] * len(later), later, strict=True)
    heapq.heapify(queue)
    gone = np.zeros(2 * n - 1, bool)
    new = n
    while new < 2 * n - 1:
        _, i, j = heapq.heappop(queue)
        if gone[i] or gone[j]:
            continue
        gone[[i, j]] = True
        share = sizes[i] / (sizes[i] + sizes[j])
        looks[new] = share * looks[i] + (1 - share) * looks[j]
        sizes[new] = sizes[i] + sizes[j]
        boxes[new, :2], boxes[new, 2:] = np.minimum(*boxes[[i, j], :2]), np.maximum(*boxes[[i, j], 2:])
        around = (neighbors[i] | neighbors[j]) - {i, j}
        neighbors.append(around)
        for x in around:
            neighbors[x] -= {i, j}
            neighbors[x].add(new)
        if around:
            others = sorted(around)
            for value, x in zip((-similarities(new, others)).tolist(), others, strict=True):
                heapq.heappush(queue, (value, x, new))
        yield boxes[new]
        new += 1


def _import_skimage() -> Any:
    """Return the package skimage with its segmentation; raise MissingPackageError if it is not installed."""
    try:
        import skimage.segmentation
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "skimage":
            raise
        raise MissingPackageError(
            "selective search needs the package scikit-image, or OpenCV's contrib build: run 'pip install scikit-image'"
        ) from error
    return skimage
