"""Predictions of a folder of images, as a COCO json and as pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.structures import Instances
from tqdm import tqdm

from ..utils.errors import ConfigError, DataError
from ..utils.files import atomic_write, claim_folder, remove_temporary_files
from ..utils.threads import Behind
from ..visualization.drawing import ColorBy, draw_panoptic, draw_predictions
from .exported import ExportedFilePredictor
from .predictor import Predictor
from .result_file import PREDICTIONS, PredictionsFile
from .sources import find_images
from .streams import refuse_streams

RESULTS = (PREDICTIONS, f"{PREDICTIONS}l", "[0-9][0-9][0-9][0-9]*_*.jpg")  # patterns of the names
MIN_PICTURE = 400  # pixels of the longer side
MAX_PICTURE = 65_500  # the same; what OpenCV's JPEG can have


class Predicted(NamedTuple):
    """What became of the images of a folder.

    Attributes:
        num_images: Images that were predicted.
        num_instances: Instances in them.
        failures: Why an image could not be read, one for each such image; its path is in the message.
    """

    num_images: int
    num_instances: int
    failures: list[DataError]


def predict_to_folder(
    model: CfgNode | str,
    inputs: Sequence[str],
    output_dir: str,
    *,
    score_threshold: float | None = None,
    batch_size: int = 1,
    with_pictures: bool = True,
    color_by: ColorBy = "instance",
    recursive: bool = False,
    overwrite: bool = False,
) -> Predicted:
    """Write the instances in images to ``predictions.json``, with a picture of each image; return what was found.

    An image that cannot be read is left out. Pictures of a panoptic model show its merged segments, stuff included.

    Args:
        model: Config that names model and weights, or the path of an exported file.
        inputs: Files, folders and patterns.
        output_dir: Folder of the results, created if missing; see :class:`.result_file.PredictionsFile`.
        score_threshold: Instances with lower scores are dropped (default: the threshold of the model's system).
        batch_size: Images per forward pass.
        with_pictures: Whether to draw the instances, too.
        color_by: What has a color of its own in pictures.
        recursive: Whether folders include their subfolders.
        overwrite: Whether results of an earlier run in ``output_dir`` are replaced.

    Raises:
        ConfigError: ``batch_size`` is not positive, an input is a video or a camera, ``output_dir`` cannot be created,
            has one of the inputs in it, or results of an earlier run, or the model cannot predict.
        DataError: An input matches no image, or no image can be read.
        WeightsError: The weights do not fill the model.
    """
    if batch_size < 1:
        raise ConfigError(f"a batch of {batch_size} images is impossible: give 1 or more")
    refuse_streams(inputs)
    paths = find_images(inputs, recursive)
    claim_folder(output_dir, RESULTS if with_pictures else RESULTS[:2], paths, overwrite=overwrite)
    predictor = ExportedFilePredictor(model) if isinstance(model, str) else Predictor(model, mask_format="compact")
    threshold = predictor.score_threshold if score_threshold is None else score_threshold
    _remove_earlier(output_dir)
    done = write_predictions(
        predictor, paths, output_dir, threshold, batch_size=batch_size, with_pictures=with_pictures, color_by=color_by
    )
    if not done.num_images:
        os.remove(os.path.join(output_dir, PREDICTIONS))  # no results, which the next run would have to replace
        others = f" (as are all {len(done.failures)} images)" if len(done.failures) > 1 else ""
        raise DataError(f"{done.failures[0]}{others}")
    return done


def write_predictions(
    predictor: Predictor | ExportedFilePredictor,
    paths: Sequence[str],
    output_dir: str,
    score_threshold: float,
    *,
    batch_size: int = 1,
    with_pictures: bool = True,
    color_by: ColorBy = "instance",
    threads: int | None = None,
) -> Predicted:
    """Write what :func:`predict_to_folder` writes, with a predictor that there is already; return what was found.

    While the model computes, threads read the next images, and encode, draw and write the results of those before. At
    most a batch and four images per thread are in memory.

    Args:
        predictor: Any; with the mask format "compact" it is fastest.
        paths: Image files.
        output_dir: Folder of the results, in which earlier ones are replaced.
        score_threshold: Instances with lower scores are dropped.
        batch_size: Images per forward pass.
        with_pictures: Whether to draw the instances, too.
        color_by: What has a color of its own in pictures.
        threads: Threads that read, and as many that draw; by default by the cores and the device, which is none on a
            single core without a GPU. With 0, one thing follows the other.
    """
    threads = predictor.threads if threads is None else threads
    failures: list[DataError] = []

    def draw(panoptic: tuple[Any, Any], image: np.ndarray, instances: Instances, picture_path: str) -> None:
        canvas, (segmentation, segments) = _canvas(image)[:, :, ::-1], panoptic
        if segments is None:
            picture = draw_predictions(canvas, instances, predictor.metadata, color_by=color_by)
        else:
            picture = draw_panoptic(
                *(canvas, segmentation, segments, predictor.metadata),
                score_threshold=score_threshold,
                color_by=color_by,
            )
        _write_jpeg(picture_path, picture[:, :, ::-1])

    found = predictor.predict_files(paths, batch_size, failures, score_threshold=score_threshold, threads=threads)
    with (
        PredictionsFile(output_dir, predictor.metadata.get("thing_classes", [])) as file,
        tqdm(total=len(paths)) as bar,
        Behind(min(threads, 1), limit=2 * threads) as writer,  # one, which keeps the order
        Behind(threads, limit=2 * threads) as painter,
        closing(found),
    ):
        for image_id, (path, image, output) in enumerate(found, 1):
            instances = output["instances"].to("cpu")
            writer.call(file.add, path, *image.shape[:2], instances)
            if with_pictures:
                panoptic = output.get("panoptic_seg", (None, None))
                painter.call(draw, panoptic, image, instances, _picture_path(output_dir, path, image_id))
            bar.update(image_id + len(failures) - bar.n)
    return Predicted(file.num_images, file.num_instances, failures)


def _canvas(image: np.ndarray) -> np.ndarray:
    """Return an image enlarged until names are readable on it, or reduced to what a JPEG can hold."""
    if max(image.shape[:2]) > MAX_PICTURE:
        height, width = (max(1, n * MAX_PICTURE // max(image.shape[:2])) for n in image.shape[:2])
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    factor = -(-MIN_PICTURE // max(image.shape[:2]))
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR) if factor > 1 else image


def _picture_path(output_dir: str, path: str, image_id: int) -> str:
    """Return a path that is unique even among images of the same name in different folders."""
    stem = os.path.splitext(os.path.basename(path))[0]
    return os.path.join(output_dir, f"{image_id:04d}_{stem}.jpg")


def _remove_earlier(output_dir: str) -> None:
    """Remove temporary files, and the pictures of an earlier run, which the new ones may not replace by name."""
    remove_temporary_files(output_dir)
    try:
        images = json.loads(Path(output_dir, PREDICTIONS).read_bytes())["images"]
        pictures = [Path(_picture_path(output_dir, image["file_name"], image["id"])) for image in images]
    except (OSError, ValueError, KeyError, TypeError):
        return  # nothing says what belongs to it
    for path in pictures:
        path.unlink(missing_ok=True)


def _write_jpeg(path: str, picture: Any) -> None:
    """Write an image, (H, W, 3) uint8 in BGR order."""
    _, encoded = cv2.imencode(".jpg", picture)
    with atomic_write(path, "wb", durable=False) as file:
        file.write(encoded.tobytes())
