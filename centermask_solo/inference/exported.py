"""Exported files in place of weights, for the commands that predict."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Any

from detectron2.data.catalog import Metadata

from ..data.images import MAX_PIXELS
from ..data.input_images import Item, as_bgr
from ..data.pixels import Pixels
from ..runtime.detectron2_model import to_instances
from ..runtime.instances import ExportedInstances
from ..runtime.predictor import ExportedPredictor
from ..utils.errors import DataError
from ..utils.threads import threads_beside


class ExportedFilePredictor:
    """What :class:`.predictor.Predictor` is for weights, as far as commands need it, for an exported file.

    Attributes:
        metadata: Detectron2's, with ``thing_classes`` if the names of the classes are known.
        score_threshold: Score from which on detections are worth keeping.
        threads: How many threads of a kind help the main one.
        max_detections: Most instances of an image.
        channels: Number of channels of the images.
        max_pixels: Most pixels of an image file; 0 for no limit.
    """

    def __init__(self, path: str, *, cpu_threads: int | None = None, providers: Sequence[Any] = ()) -> None:
        """
        Args:
            path: The file.
            cpu_threads: ``threads`` of :class:`ExportedPredictor`.
            providers: See there.

        Raises:
            UserError: See :class:`ExportedPredictor`.
        """
        self._predictor = ExportedPredictor(path, threads=cpu_threads, providers=providers)
        names = self._predictor.class_names
        self.metadata = Metadata(name=path, **({} if names is None else {"thing_classes": names}))
        self.score_threshold = self._predictor.metadata.display_threshold
        self.threads, self.max_detections = threads_beside("cpu"), self._predictor.metadata.max_detections
        self.channels, self.max_pixels = 3, MAX_PIXELS

    def predict_files(
        self,
        paths: Iterable[Item],
        batch_size: int = 1,
        failures: list[DataError] | None = None,
        *,
        score_threshold: float | None = None,
        threads: int | None = None,
    ) -> Generator[tuple[Item, Pixels, dict[str, Any]], None, None]:
        """Yield what :meth:`Predictor.predict_files` does; masks are ``RLEMasks``, and images are read in turn."""
        del threads
        for item, image, output in self._predictor.predict_files(paths, batch_size, failures):
            yield item, image, _output(output["instances"], score_threshold)

    def read(self, image: Any) -> Pixels:
        """Return what :meth:`.predictor.Predictor.read` does."""
        return as_bgr(image, self.max_pixels)

    def predict_images(self, images: Sequence[Pixels], score_threshold: float | None = None) -> list[dict[str, Any]]:
        """Return what :meth:`.predictor.Predictor.predict_images` does; masks are ``RLEMasks``."""
        outputs = self._predictor.predict_batch(list(images), masks="rle")
        return [_output(x["instances"], score_threshold) for x in outputs]


def _output(found: ExportedInstances, score_threshold: float | None) -> dict[str, Any]:
    if score_threshold is not None:
        found = found[found.scores >= score_threshold]
    return {"instances": to_instances(found)}
