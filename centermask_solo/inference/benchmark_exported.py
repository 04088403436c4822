"""Prediction with an exported file taken apart into the stages that a benchmark measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from ..data.input_images import as_bgr
from ..runtime.metadata import Metadata
from ..runtime.predictor import ExportedPredictor
from ..runtime.resizing import resize
from ..runtime.session import Arrays, Session
from .stages import MASKS, MODEL, READ, RESIZE, Clock


class MeasuredFile:
    """An exported file whose prediction a clock measures.

    Attributes:
        metadata: What the file says about itself.
        input_sizes: (height, width) of what its network was given, padded; empty if the graph resizes images to a size
            of its own, which the file does not state.
    """

    def __init__(self, path: str, threads: int, clock: Clock) -> None:
        """
        Args:
            path: The file.
            threads: CPU threads.
            clock: Measures the stages.

        Raises:
            UserError: See :class:`ExportedPredictor`.
        """
        self._predictor, self._clock = ExportedPredictor(path, threads=threads), clock
        self.metadata = self._predictor.metadata
        self.input_sizes: dict[tuple[int, int], None] = {}
        self._predictor._session = _MeasuredSession(self._predictor._session, self)

    def predict(self, paths: Sequence[str]) -> list[int]:
        """Return the numbers of detections in a batch of image files; their masks become run-length codes."""
        with self._clock.stage(READ):
            images = [as_bgr(path) for path in paths]
        with self._clock.stage(RESIZE):
            resized = [resize(x, self.metadata.input) for x in images]
        with self._clock.stage(MASKS):
            return [len(x) for x in self._predictor.run(resized, [x.shape[:2] for x in images], "rle")]

    def run(self, session: Session, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """Return the outputs of a session, and note what it took."""
        rule = self.metadata.input
        if not rule.resize.stretch:
            height, width = (-(-n // rule.divisibility) * rule.divisibility for n in feeds["images"].shape[1:3])
            self.input_sizes.setdefault((height, width))
        with self._clock.stage(MODEL):
            return session.run(feeds)


class _MeasuredSession:
    """A :class:`Session` that reports its runs."""

    def __init__(self, session: Session, owner: MeasuredFile) -> None:
        self._session, self._owner = session, owner
        self.description, self.inputs, self.outputs = session.description, session.inputs, session.outputs

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        return self._owner.run(self._session, feeds)


def precision_of(metadata: Metadata) -> str:
    """Return the precision in which a file computes, for tables."""
    return "int8" if metadata.int8 else "float32"
