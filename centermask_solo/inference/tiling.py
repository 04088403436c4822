"""Large images in tiles: predicted a few at a time, and the instances that lie in several of them joined."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import Instances
from numpy.typing import NDArray
from tqdm import tqdm

from ..data.input_images import Item, read_images
from ..data.pixels import Pixels
from ..structures.compact_masks import RLEMasks
from ..structures.mask_formats import packed, without_masks
from ..structures.rle_codes import Window, encode_window
from ..utils.errors import ConfigError, DataError
from ..utils.rules import COUNT, PROBABILITY, check_count
from .joining import Rectangle, join

TILES = "tiles per forward pass"  # what a batch size counts


@dataclass(frozen=True)
class Tiles:
    """How large images are cut.

    Attributes:
        size: Side of a tile in pixels.
        overlap: Share of a tile that the next one covers, too, at least; objects up to that size are whole in a tile.
    """

    size: int = 1024
    overlap: float = 0.2

    def __post_init__(self) -> None:
        if not (COUNT.allows(self.size) and PROBABILITY.allows(self.overlap)):
            raise ConfigError(
                f"tiles of {self.size!r} pixels with an overlap of {self.overlap!r} are impossible: give a size of 1 "
                "or more, and an overlap above 0 and below 1"
            )

    def of(self, height: int, width: int) -> list[Rectangle]:
        """Return the tiles of an image, row by row; they cover it, and are no larger than it."""
        rows, columns = self._starts(height), self._starts(width)
        tall, wide = min(self.size, height), min(self.size, width)
        return [(x, y, x + wide, y + tall) for y in rows for x in columns]

    def _starts(self, length: int) -> list[int]:
        if length <= self.size:
            return [0]
        step = max(self.size - math.ceil(self.size * self.overlap), 1)
        count = math.ceil((length - self.size) / step) + 1
        return [round(i * (length - self.size) / (count - 1)) for i in range(count)]


class ImagePredictor(Protocol):
    """What tiles need of a predictor."""

    metadata: Metadata
    score_threshold: float
    threads: int
    channels: int
    max_pixels: int

    def read(self, image: Any) -> NDArray[Any]:
        """Return an image as the model takes it, (H, W, channels)."""

    def predict_images(
        self, images: Sequence[NDArray[Any]], score_threshold: float | None = None
    ) -> list[dict[str, Any]]:
        """Return the outputs of images that :meth:`read` has returned, or of parts of them, with compact masks."""


class TiledPredictor:
    """Predicts every tile of an image, and joins the instances that are one.

    The memory beyond the image does not grow with it: a batch of tiles is predicted at once, and masks are run-length
    codes, or crops in their boxes while two are compared.

    Attributes:
        metadata: That of the predictor.
        score_threshold: That of the predictor.
        threads: That of the predictor.
        max_detections: -1, as tiles have limits, but images have none.
    """

    def __init__(self, predictor: ImagePredictor, tiles: Tiles) -> None:
        """
        Args:
            predictor: What predicts a tile; of its outputs only the instances count.
            tiles: How images are cut.
        """
        self._predictor, self._tiles = predictor, tiles
        self.metadata, self.score_threshold = predictor.metadata, predictor.score_threshold
        self.threads = predictor.threads
        self.max_detections = -1

    def predict_files(
        self,
        paths: Iterable[Item],
        batch_size: int = 1,
        failures: list[DataError] | None = None,
        *,
        score_threshold: float | None = None,
        threads: int | None = None,
    ) -> Generator[tuple[Item, Pixels, dict[str, Any]], None, None]:
        """Yield what :meth:`.predictor.Predictor.predict_files` does, one image after the other; without threads.

        Args:
            paths: Image files, or frames of videos.
            batch_size: Tiles per forward pass.
            failures: See there.
            score_threshold: See there.
            threads: Not used.

        Raises:
            ConfigError: ``batch_size`` is no number of tiles.
        """
        del threads
        check_count(batch_size, TILES)
        images = read_images(paths, self._predictor.channels, self._predictor.max_pixels, failures)
        for item, shown, image in images:
            yield item, shown, {"instances": self._predict(image, batch_size, score_threshold)}

    def predict_image(self, image: Any, batch_size: int = 1, score_threshold: float | None = None) -> Instances:
        """Return the instances of an image, the best first, on the CPU; ``pred_masks`` are ``RLEMasks``.

        Args:
            image: As the predictor takes it.
            batch_size: Tiles per forward pass.
            score_threshold: Instances of lower scores are left out.

        Raises:
            ConfigError: ``batch_size`` is no number of tiles.
            DataError: It is no image.
        """
        check_count(batch_size, TILES)
        return self._predict(self._predictor.read(image), batch_size, score_threshold)

    def _predict(self, image: NDArray[Any], batch_size: int, score_threshold: float | None) -> Instances:
        size = (image.shape[0], image.shape[1])
        rectangles = self._tiles.of(*size)
        found: list[Instances] = []
        with tqdm(total=len(rectangles), unit="tile", leave=False, disable=len(rectangles) <= batch_size) as bar:
            for batch in _batches(rectangles, batch_size):
                pieces = [np.ascontiguousarray(image[y0:y1, x0:x1]) for x0, y0, x1, y1 in batch]
                outputs = self._predictor.predict_images(pieces, score_threshold)
                found += [_in_image(x["instances"].to("cpu"), r, size) for x, r in zip(outputs, batch, strict=True)]
                bar.update(len(batch))
        return join(found, rectangles)


def _batches(rectangles: Sequence[Rectangle], batch_size: int) -> list[Sequence[Rectangle]]:
    return [rectangles[i : i + batch_size] for i in range(0, len(rectangles), batch_size)]


def _in_image(instances: Instances, tile: Rectangle, size: tuple[int, int]) -> Instances:
    """Return the instances of a tile in the frame of an image of (H, W)."""
    left, top = tile[:2]
    fields = without_masks(instances).get_fields() | {"pred_boxes": instances.pred_boxes.clone()}
    moved = Instances(size, **fields)
    moved.pred_boxes.tensor += torch.tensor([left, top, left, top])
    if instances.has("pred_masks"):
        windows = packed(instances.pred_masks).windows()
        codes = [encode_window(Window(w.left + left, w.top + top, w.pixels), size) for w in windows]
        moved.pred_masks = RLEMasks(codes, size)
    return moved
