"""Predictions of images, videos, cameras and streams, one after the other."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from detectron2.config import CfgNode
from detectron2.data.catalog import Metadata
from detectron2.structures import Instances

from ..data.frames import Frame
from ..data.input_images import Item
from ..data.pixels import Pixels
from ..utils.errors import DataError
from ..utils.rules import BATCH, check_count
from .conversions import instances_to_supervision
from .exported import ExportedFilePredictor
from .filters import Filters
from .predictor import Predictor
from .sources import Sources, find_sources
from .tiling import TiledPredictor, Tiles
from .tracking import LOW_SCORE, Tracker

FRAME_NAME = re.compile(r"(?P<video>.+)#(?P<index>\d+)", re.DOTALL)
FRAME_STEM = re.compile(r"(?P<video>.+)_\d{6,}", re.DOTALL)
MAX_STEM = 100  # characters of a file's name that come from an address


class AnyPredictor(Protocol):
    """What :func:`predict_items` needs of a predictor."""

    metadata: Metadata
    score_threshold: float
    threads: int
    max_detections: int

    def predict_files(
        self,
        paths: Iterable[Item],
        batch_size: int = 1,
        failures: list[DataError] | None = None,
        *,
        score_threshold: float | None = None,
        threads: int | None = None,
    ) -> Generator[tuple[Item, Pixels, dict[str, Any]], None, None]:
        """See :meth:`Predictor.predict_files`."""


class Prediction(NamedTuple):
    """What was found in an image.

    Attributes:
        id: Number of the image in this run, from 1.
        name: Path of the image; of a frame, the name of the video and the index, such as "a.mp4#12".
        image: (H, W, 3) uint8 in BGR order.
        instances: ``pred_boxes``, ``scores``, ``pred_classes``, ``pred_masks`` as
            :class:`~centermask_solo.structures.compact_masks.CompactMasks` if the model has masks, and ``track_ids`` if
            they are tracked; on the CPU, the best first.
        metadata: Detectron2's, with ``thing_classes`` if the names of the classes are known.
        score_threshold: Score from which on instances are kept.
        frame: The frame; None for an image file.
        panoptic: The segments of a panoptic model, as Detectron2's "panoptic_seg"; None for other models, and where the
            instances are filtered by more than their scores, tracked or found in tiles.
    """

    id: int
    name: str
    image: Pixels
    instances: Instances
    metadata: Metadata
    score_threshold: float
    frame: Frame | None = None
    panoptic: tuple[Any, Any] | None = None

    @property
    def class_names(self) -> Sequence[str]:
        """Names of the classes, in order; empty if they are unknown."""
        return self.metadata.get("thing_classes") or ()

    def to_supervision(self) -> Any:
        """Return :func:`.conversions.instances_to_supervision` of the instances."""
        return instances_to_supervision(self.instances, self.class_names)


def predict(
    model: CfgNode | str | AnyPredictor,
    inputs: Sequence[str],
    *,
    filters: Filters = Filters(),  # noqa: B008  (it is frozen)
    tiles: Tiles | None = None,
    track: bool = False,
    batch_size: int = 1,
    recursive: bool = False,
    failures: list[DataError] | None = None,
) -> Generator[Prediction, None, None]:
    """Yield what is found in images and in the frames of videos and cameras, as they are read.

    Args:
        model: A :class:`.predictor.Predictor`, such as ``centermask_solo.load`` returns; a config that names model and
            weights; or the path of an exported file.
        inputs: See :func:`.sources.find_sources`.
        filters: Which instances are kept.
        tiles: How large images are cut; by default they are resized as a whole.
        track: Whether instances have ``track_ids``, which stay the same over the images of an input in their order.
        batch_size: Images per forward pass.
        recursive: Whether folders include their subfolders.
        failures: Takes the errors of images that cannot be read, which are then left out; without it, the first such
            error is raised.

    Raises:
        ConfigError: The model cannot predict, or an argument does not fit it.
        DataError: See ``failures``; or an input matches nothing.
        WeightsError: The weights do not fill the model.
    """
    check_count(batch_size, BATCH)
    sources = find_sources(inputs, recursive)
    predictor = load_predictor(model, tiles)
    yield from predict_items(predictor, sources, filters, track=track, batch_size=batch_size, failures=failures)


def load_predictor(model: CfgNode | str | AnyPredictor, tiles: Tiles | None = None) -> AnyPredictor:
    """Return the predictor of a config or of an exported file, or the one that is given, which cuts into ``tiles``."""
    predictor: Any = model
    if isinstance(model, str):
        predictor = ExportedFilePredictor(model)
    elif isinstance(model, CfgNode):
        predictor = Predictor(model, mask_format="compact")
    return predictor if tiles is None else TiledPredictor(predictor, tiles)


def predict_items(
    predictor: AnyPredictor,
    sources: Sources,
    filters: Filters,
    *,
    track: bool = False,
    batch_size: int = 1,
    failures: list[DataError] | None = None,
    threads: int | None = None,
) -> Generator[Prediction, None, None]:
    """Yield what :func:`predict` does, with a predictor that there is already."""
    threshold = predictor.score_threshold if filters.score_threshold is None else filters.score_threshold
    names = predictor.metadata.get("thing_classes") or ()
    filters.class_indices(names)  # before the work begins
    rest = replace(filters, score_threshold=None)  # as the predictor leaves out the others
    is_whole = not track and rest == Filters()
    tracker, video = Tracker(threshold), ""
    if sources.is_live:  # threads would read frames before it is their turn, and batches wait for the last of theirs
        threads, batch_size = 0, 1
    with closing(sources.items(failures)) as items:
        lowest = threshold * LOW_SCORE if track else threshold
        found = predictor.predict_files(items, batch_size, failures, score_threshold=lowest, threads=threads)
        with closing(found):
            for i, (item, image, output) in enumerate(found, 1):
                frame = item if isinstance(item, Frame) else None
                instances = output["instances"].to("cpu")
                kept = rest.apply(instances, names)
                if track:
                    if (frame.video if frame else "") != video:
                        tracker, video = Tracker(threshold), frame.video if frame else ""
                    kept = tracker.update(kept)
                panoptic = output.get("panoptic_seg") if is_whole else None
                name = frame.name if frame else str(item)
                yield Prediction(i, name, image, kept, predictor.metadata, threshold, frame, panoptic)


class Stems:
    """Beginnings of the names of result files: unique, and the same in every run with the same images."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._videos: dict[str, str] = {}

    def of(self, image_id: int, name: str) -> str:
        """Return that of an image or a frame by its number in the run and its name; to be asked once for each."""
        frame = FRAME_NAME.fullmatch(name)
        if frame is None:
            return self._unique(os.path.splitext(os.path.basename(name))[0], image_id)
        return f"{self.of_video(image_id, frame['video'])}_{int(frame['index']):06d}"

    def of_video(self, image_id: int, video: str) -> str:
        """Return that of a video, by the number of any of its frames when it is asked for first."""
        if video not in self._videos:
            stem = os.path.splitext(os.path.basename(video.rstrip("/")))[0]
            if "://" in video:
                stem = re.sub(r"[^\w.-]+", "_", stem)[:MAX_STEM]
            stem = f"camera{stem}" if stem.isdecimal() else stem
            while any((frame := FRAME_STEM.fullmatch(x)) and frame["video"] == stem for x in self._taken):
                stem = f"{stem}_{image_id}"  # its frames would have the name of an image
            self._videos[video] = self._unique(stem, image_id)
        return self._videos[video]

    def _unique(self, stem: str, image_id: int) -> str:
        while stem in self._taken or self._is_of_a_frame(stem):
            stem = f"{stem}_{image_id}"
        self._taken.add(stem)
        return stem

    def _is_of_a_frame(self, stem: str) -> bool:
        frame = FRAME_STEM.fullmatch(stem)
        return frame is not None and frame["video"] in self._videos.values()
