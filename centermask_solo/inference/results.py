"""Predictions of images, videos and cameras, in files."""

from __future__ import annotations

import glob
import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from detectron2.config import CfgNode
from tqdm import tqdm

from ..data.frames import Frame
from ..data.images import IMAGE_SUFFIXES
from ..utils.errors import ConfigError, DataError
from ..utils.files import atomic_write, claim_folder, remove_temporary_files
from ..utils.rules import BATCH, check_count
from ..utils.text import counted, one_line, printable
from ..utils.threads import Behind
from .filters import Filters
from .outputs import KINDS, Outputs, draw
from .predictions import FRAME_NAME, AnyPredictor, Prediction, Stems, load_predictor, predict_items
from .result_file import PREDICTIONS, RESULTS, TABLE, PredictionsFile, Table
from .sources import STANDARD_INPUT, Sources, find_sources
from .streams import is_stream
from .tiling import Tiles
from .video_file import SUFFIXES, VideoFile

logger = logging.getLogger(__name__)

CLASSES = "classes.txt"  # names of the classes in YOLO's files, one per line
SINGLE = (RESULTS, TABLE, CLASSES)


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
    claim_results(output_dir, outputs, sources.files, overwrite=overwrite)
    earlier = _earlier_files(output_dir, sources)
    predictor = load_predictor(model, tiles)
    filters.class_indices(predictor.metadata.get("thing_classes") or ())
    if (filters.max_detections or 0) > (limit := predictor.max_detections) >= 0:
        logger.warning(
            "the model finds at most %s in an image, fewer than --max-detections", counted(limit, "instance")
        )
    for path in earlier:
        os.remove(path)
    done = write_predictions(
        predictor, sources, output_dir, filters, outputs, track=track, batch_size=batch_size, max_images=max_images
    )
    if not done.num_images and (done.failures or not sources.is_live):
        for name in (PREDICTIONS, *SINGLE):  # no results, which the next run would have to replace
            Path(output_dir, name).unlink(missing_ok=True)
        if not done.failures:
            raise DataError(f"there is no image in {', '.join(map(repr, inputs))}: give the paths of some")
        others = f" (as are all {len(done.failures)} images)" if len(done.failures) > 1 else ""
        raise DataError(f"{done.failures[0]}{others}")
    return done


def claim_results(folder: str, outputs: Outputs, inputs: Sequence[str], *, overwrite: bool = False) -> None:
    """Check that the results of a run may be written to a folder, as ``claim_folder`` does.

    Raises:
        ConfigError: They may not.
    """
    patterns = [PREDICTIONS, f"{PREDICTIONS}l", *(x for kind in outputs.kinds() for x in kind.patterns())]
    single = {RESULTS: outputs.results, TABLE: outputs.csv, CLASSES: outputs.yolo}
    patterns += [name for name, is_written in single.items() if is_written]
    patterns += [f"*{suffix}" for suffix in SUFFIXES if outputs.video]
    claim_folder(folder, patterns, inputs, overwrite=overwrite)
    for kind in outputs.kinds():
        if kind.folder:
            claim_folder(os.path.join(folder, kind.folder), (), inputs, overwrite=overwrite)


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
) -> Predicted:
    """Write what :func:`predict_to_folder` writes, with a predictor that there is already; return what was found.

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
    """
    threads = predictor.threads if threads is None else threads
    failures: list[DataError] = []
    found = predict_items(
        predictor, sources, filters, track=track, batch_size=batch_size, failures=failures, threads=threads
    )
    names, stems, dropped, start = predictor.metadata.get("thing_classes", []), Stems(), _Dropped(), time.monotonic()
    count = sources.count if max_images is None else min(sources.count or max_images, max_images)
    with ExitStack() as stack:
        file = PredictionsFile(output_dir, names, polygons=outputs.polygons, results=outputs.results)
        ordered: list[PredictionsFile | Table | _Videos] = [stack.enter_context(file)]
        if outputs.csv:
            ordered.append(stack.enter_context(Table(output_dir)))
        if outputs.video:
            ordered.append(stack.enter_context(_Videos(output_dir, outputs)))
        if outputs.yolo:
            _write_lines(os.path.join(output_dir, CLASSES), [printable(one_line(name)) for name in names])
        bar = stack.enter_context(tqdm(total=count, unit="image"))
        writer = stack.enter_context(Behind(min(threads, 1), limit=2 * threads))  # one, which keeps the order
        painter = stack.enter_context(Behind(threads, limit=2 * threads))
        stack.enter_context(closing(found))
        stack.enter_context(_ends_with_ctrl_c(sources.is_live))
        seen = 0
        for prediction in found:
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


def _earlier_files(output_dir: str, sources: Sources) -> list[str]:
    """Return all files of an earlier run, which the new ones may not replace by name; remove temporary ones.

    Pictures, which a list on standard input may name, are not among them if there is one.

    Raises:
        ConfigError: One of them is to be read.
    """
    for folder in {kind.folder for kind in KINDS}:
        remove_temporary_files(os.path.join(output_dir, folder))
    try:
        images = json.loads(Path(output_dir, PREDICTIONS).read_bytes())["images"]
        stems = Stems()
        found = [path for x in images for path in _paths_of(output_dir, x["id"], x["file_name"], stems)]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # nothing says what belongs to it
    single = (os.path.join(output_dir, name) for name in SINGLE)
    found = [path for path in dict.fromkeys((*found, *single)) if os.path.isfile(path)]
    inputs = {os.path.realpath(path) for path in sources.files}
    for path in found:
        if os.path.realpath(path) in inputs:
            raise ConfigError(
                f"{path} is an input, and one of the results that would be replaced: choose another output"
            )
    if STANDARD_INPUT in sources.names:
        return [path for path in found if not path.lower().endswith((*IMAGE_SUFFIXES, *SUFFIXES))]
    return found


def _paths_of(output_dir: str, image_id: int, name: str, stems: Stems) -> Iterator[str]:
    """Yield the paths that the files of an image may have; to be asked for once for each, in their order."""
    stem = stems.of(image_id, name)
    for kind in KINDS:
        start = kind.path(output_dir, image_id, stem)
        for suffix in kind.suffixes:
            yield from glob.glob(glob.escape(start) + suffix)
    if FRAME_NAME.fullmatch(name):
        start = os.path.join(output_dir, stems.of_video(image_id, FRAME_NAME.sub(r"\g<video>", name)))
        yield from (start + suffix for suffix in SUFFIXES)


def _write_lines(path: str, lines: Sequence[str]) -> None:
    with atomic_write(path) as file:
        file.writelines(f"{line}\n" for line in lines)
