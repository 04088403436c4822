"""Predictions of images, videos and cameras, in files."""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import NamedTuple

from detectron2.config import CfgNode
from tqdm import tqdm

from ..data.frames import Frame
from ..utils.errors import DataError
from ..utils.files import atomic_write
from ..utils.rules import BATCH, check_count
from ..utils.text import counted, one_line, printable
from ..utils.threads import Behind
from .filters import Filters
from .outputs import Outputs, draw
from .predictions import AnyPredictor, Prediction, Stems, load_predictor, predict_items
from .result_file import PredictionsFile, Table
from .result_folder import CLASSES, claim_results, earlier_files, remove_folders
from .sources import STANDARD_INPUT, Sources, find_sources
from .streams import is_stream
from .tiling import Tiles
from .video_file import VideoFile

logger = logging.getLogger(__name__)

MAX_NAMED = 3  # images in the error of a run without any that can be read


class Predicted(NamedTuple):
    """What became of the images of a run.

    Attributes:
        num_images: Images and frames that were predicted.
        num_instances: Instances in them.
        failures: Why an image could not be read, one for each such image; its path is in the message.
        num_dropped: Frames of cameras and live streams that came too fast.
        seconds: How long it took, without the start.
    """

    num_images: int
    num_instances: int
    failures: list[DataError]
    num_dropped: int
    seconds: float


def predict_to_folder(
    model: CfgNode | str | AnyPredictor,
    inputs: Sequence[str],
    output_dir: str,
    *,
    filters: Filters = Filters(),  # noqa: B008  (it is frozen)
    outputs: Outputs = Outputs(),  # noqa: B008
    tiles: Tiles | None = None,
    track: bool = False,
    batch_size: int = 1,
    max_images: int | None = None,
    recursive: bool = False,
    overwrite: bool = False,
) -> Predicted:
    """Write the instances in images to ``predictions.json``, and to the files of ``outputs``; return what was found.

    An image that cannot be read is left out. Pictures of a panoptic model show its merged segments, stuff included.
    Ctrl-C ends a camera or a live stream like any other end of it.

    Args:
        model: See :func:`.predictions.predict`.
        inputs: See :func:`.sources.find_sources`.
        output_dir: Folder of the results, created if missing; see :class:`.result_file.PredictionsFile`.
        filters: Which instances are kept; by default those from the threshold of the model's system on.
        outputs: Which files are written.
        tiles: How large images are cut; by default they are resized as a whole.
        track: Whether instances have ids that stay the same over the images of an input.
        batch_size: Images per forward pass.
        max_images: Number of images and frames after which the run ends.
        recursive: Whether folders include their subfolders.
        overwrite: Whether results of an earlier run in ``output_dir`` are replaced.

    Raises:
        ConfigError: A number is not positive, ``output_dir`` cannot be created, has one of the inputs in it, or
            results of an earlier run, or the model cannot predict, or lacks what ``filters`` or ``outputs`` need.
        DataError: An input matches nothing, or no image can be read.
        MissingPackageError: A video is read or written, and PyAV is not installed.
        WeightsError: The weights do not fill the model.
    """
    check_count(batch_size, BATCH)
    if max_images is not None:
        check_count(max_images, "images", "give 1 or more as max_images, or None")
    sources = find_sources(inputs, recursive)
    is_listed = STANDARD_INPUT in sources.names
    streams = [is_stream(x) for x in sources.names]
    outputs.check(images=is_listed or not all(streams), frames=is_listed or any(streams))
    is_new = not os.path.lexists(output_dir)
    claim_results(output_dir, outputs, sources.files, overwrite=overwrite)
    earlier = earlier_files(output_dir, sources)
    predictor = load_predictor(model, tiles)
    filters.class_indices(predictor.metadata.get("thing_classes") or ())
    if (filters.max_detections or 0) > (limit := predictor.max_detections) >= 0:
        logger.warning(
            "the model finds at most %s in an image, fewer than --max-detections", counted(limit, "instance")
        )
    done = write_predictions(
        *(predictor, sources, output_dir, filters, outputs),
        track=track,
        batch_size=batch_size,
        max_images=max_images,
        earlier=earlier,
    )
    if not done.num_images and (done.failures or not sources.is_live):
        if is_new:
            remove_folders(output_dir)
        if not done.failures:
            raise DataError(f"there is no image in {', '.join(map(repr, inputs))}: give the paths of some")
        named = "; ".join(map(str, done.failures[:MAX_NAMED]))
        others = len(done.failures) - MAX_NAMED
        raise DataError(f"{named}; and {counted(others, 'image')} more" if others > 0 else named)
    return done


def write_predictions(
    predictor: AnyPredictor,
    sources: Sources,
    output_dir: str,
    filters: Filters = Filters(),  # noqa: B008
    outputs: Outputs = Outputs(),  # noqa: B008
    *,
    track: bool = False,
    batch_size: int = 1,
    max_images: int | None = None,
    threads: int | None = None,
    earlier: Sequence[str] = (),
) -> Predicted:
    """Write what :func:`predict_to_folder` writes, with a predictor that there is already; return what was found.

    Before the first image is predicted nothing is written or removed: if none can be read, the folder stays as it is.

    While the model computes, threads read the next images, and encode, draw and write the results of those before. At
    most a batch and four images per thread are in memory.

    Args:
        predictor: Any; with the mask format "compact" it is fastest.
        sources: Images and streams.
        output_dir: Folder of the results, in which earlier ones are replaced.
        filters: Which instances are kept.
        outputs: Which files are written.
        track: See there.
        batch_size: Images per forward pass.
        max_images: See there.
        threads: Threads that read, and as many that draw; by default by the cores and the device, which is none on a
            single core without a GPU. With 0, one thing follows the other.
        earlier: Files of an earlier run, which are removed.
    """
    threads = predictor.threads if threads is None else threads
    failures: list[DataError] = []
    found = predict_items(
        predictor, sources, filters, track=track, batch_size=batch_size, failures=failures, threads=threads
    )
    names, stems, dropped, start = predictor.metadata.get("thing_classes", []), Stems(), _Dropped(), time.monotonic()
    count = sources.count if max_images is None else min(sources.count or max_images, max_images)
    with ExitStack() as stack:
        stack.enter_context(closing(found))
        bar = stack.enter_context(tqdm(total=count, unit="image"))
        with _ends_with_ctrl_c(sources.is_live):
            first = list(itertools.islice(found, 1))
        if not first and (failures or not sources.is_live):
            return Predicted(0, 0, failures, 0, time.monotonic() - start)
        for path in earlier:
            os.remove(path)
        file = PredictionsFile(output_dir, names, polygons=outputs.polygons, results=outputs.results)
        ordered: list[PredictionsFile | Table | _Videos] = [stack.enter_context(file)]
        if outputs.csv:
            ordered.append(stack.enter_context(Table(output_dir)))
        if outputs.video:
            ordered.append(stack.enter_context(_Videos(output_dir, outputs)))
        if outputs.yolo:
            _write_lines(os.path.join(output_dir, CLASSES), [printable(one_line(name)) for name in names])
        writer = stack.enter_context(Behind(min(threads, 1), limit=2 * threads))  # one, which keeps the order
        painter = stack.enter_context(Behind(threads, limit=2 * threads))
        stack.enter_context(closing(found))  # before the threads, which it may wait for
        stack.enter_context(_ends_with_ctrl_c(sources.is_live))
        seen = 0
        for prediction in itertools.chain(first, found):
            seen = prediction.id
            dropped.see(prediction.frame)
            for x in ordered:
                writer.call(x.add, prediction)
            painter.call(outputs.write, prediction, output_dir, stems.of(prediction.id, prediction.name))
            bar.update(seen + len(failures) - bar.n)
            if seen == max_images:
                break
        bar.update(seen + len(failures) - bar.n)  # those after the last one that could be read
    seconds = time.monotonic() - start
    return Predicted(file.num_images, file.num_instances, failures, dropped.count, seconds)


@contextmanager
def _ends_with_ctrl_c(is_live: bool) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        if not is_live:
            raise


class _Dropped:
    """Counts the frames that are missing between those that were predicted."""

    def __init__(self) -> None:
        self.count, self._video, self._next = 0, "", 0

    def see(self, frame: Frame | None) -> None:
        if frame is not None:
            self.count += frame.index - self._next if frame.video == self._video else frame.index
            self._video, self._next = frame.video, frame.index + 1


class _Videos:
    """Writes a video of the predictions of each stream, one after the other, in a ``with`` block."""

    def __init__(self, folder: str, outputs: Outputs) -> None:
        self._folder, self._style, self._stems = folder, outputs.style, Stems()
        self._current, self._files = "", ExitStack()
        self._file: VideoFile | None = None

    def add(self, prediction: Prediction) -> None:
        frame = prediction.frame
        if frame is None:
            return
        picture = draw(prediction, self._style)
        if self._file is None or frame.video != self._current:
            self._files.close()
            path = os.path.join(self._folder, self._stems.of_video(prediction.id, frame.video))
            self._file = self._files.enter_context(VideoFile(path, frame, (picture.shape[0], picture.shape[1])))
            self._current = frame.video
        self._file.add(frame, picture)

    def __enter__(self) -> _Videos:
        return self

    def __exit__(self, *failure: object) -> None:
        self._files.close()


def _write_lines(path: str, lines: Sequence[str]) -> None:
    with atomic_write(path) as file:
        file.writelines(f"{line}\n" for line in lines)
