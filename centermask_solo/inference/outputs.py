"""What a run of predictions writes, and the files that belong to one image each."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2

from ..data.pixels import Pixels
from ..utils.errors import ConfigError
from ..utils.files import atomic_write
from ..visualization.drawing import DEFAULT_STYLE, Style, draw_panoptic, draw_predictions
from .conversions import (
    instances_to_cutouts,
    instances_to_id_map,
    instances_to_labelme,
    instances_to_masks,
    instances_to_yolo,
)
from .predictions import Prediction

MIN_PICTURE = 400  # pixels of the longer side
MAX_PICTURE = 65_500  # the same; what OpenCV's JPEG can have
FAST_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1]  # masks are as small as with more effort


@dataclass(frozen=True)
class Outputs:
    """What is written besides ``predictions.json``, the instances of all images as a dataset in COCO's format.

    Attributes:
        pictures: ``0001_a.jpg``, the instances over each image; None for image files, but not for frames.
        video: ``a.mp4``, the same as a video for each video, camera or stream.
        results: ``results.json``, the instances as COCO's evaluation takes them.
        csv: ``instances.csv``, a line for each instance.
        labelme: ``labelme/a.json``, files of labelme; for frames with the image beside it.
        yolo: ``labels/a.txt``, files in YOLO's format for segmentation, and the names of the classes in
            ``classes.txt``.
        masks: ``masks/0001_a_1.png``, the mask of each instance, 0 and 255.
        id_maps: ``id_maps/0001_a.png``, 16 bits deep: the number of the instance at each pixel, 0 for none.
        cutouts: ``cutouts/0001_a_1.png``, each instance in its box, transparent around it.
        polygons: Whether masks are polygons instead of run-length codes in ``predictions.json``.
        style: How pictures and videos are drawn.
    """

    pictures: bool | None = None
    video: bool = False
    results: bool = False
    csv: bool = False
    labelme: bool = False
    yolo: bool = False
    masks: bool = False
    id_maps: bool = False
    cutouts: bool = False
    polygons: bool = False
    style: Style = DEFAULT_STYLE

    def check(self, *, images: bool, frames: bool) -> None:
        """Check that everything that is asked for applies to something.

        Args:
            images: Whether image files may come.
            frames: Whether frames of videos may come.

        Raises:
            ConfigError: Something does not.
        """
        if self.video and not frames:
            raise ConfigError("there is no video among the inputs to make a video of: leave out --save-video")
        is_drawn = self.video or self.pictures or (self.pictures is None and images)
        if self.style != DEFAULT_STYLE and not is_drawn:
            why = "with --no-pictures" if self.pictures is False else "over frames"
            fix = "leave out --draw, --line-width and --color-by, or add --save-video or --pictures"
            raise ConfigError(f"nothing is drawn {why}: {fix}")

    def kinds(self) -> list[Kind]:
        """Return the kinds of files of an image that may be written."""
        return [x for x in KINDS if getattr(self, x.name) is not False]

    def write(self, prediction: Prediction, folder: str, stem: str) -> None:
        """Write the files of an image.

        Args:
            prediction: Of the image.
            folder: Folder of the results.
            stem: Beginning of the names, unique in the run.
        """
        for kind in self.kinds():
            if kind is PICTURES and self.pictures is None and prediction.frame is not None:
                continue
            kind.write(prediction, kind.path(folder, prediction.id, stem), self.style)


class Kind(NamedTuple):
    """A kind of file, of which an image has one or several.

    Attributes:
        name: Attribute of :class:`Outputs`.
        folder: Folder of these files in that of the results; "" for the latter itself.
        suffixes: Ends of the names, as patterns.
        is_numbered: Whether the number of the image is the beginning of the names, which else are those of the image.
        write: Writes the files of an image, whose names begin with a path.
    """

    name: str
    folder: str
    suffixes: tuple[str, ...]
    is_numbered: bool
    write: Callable[[Prediction, str, Style], None]

    def path(self, folder: str, image_id: int, stem: str) -> str:
        """Return the beginning of the paths for an image."""
        return os.path.join(folder, self.folder, f"{image_id:04d}_{stem}" if self.is_numbered else stem)

    def patterns(self) -> list[str]:
        """Return the patterns of all paths in the folder of the results, as for ``Path.glob``."""
        start = "[0-9][0-9][0-9][0-9]*_*" if self.is_numbered else "*"
        return [os.path.join(self.folder, start + suffix) for suffix in self.suffixes]


def _write_picture(prediction: Prediction, path: str, style: Style) -> None:
    _write_image(f"{path}.jpg", draw(prediction, style))


def _write_labelme(prediction: Prediction, path: str, style: Style) -> None:
    del style
    name = os.path.relpath(prediction.name, os.path.dirname(path))
    if prediction.frame is not None:
        _write_image(f"{path}.jpg", prediction.image)
        name = f"{os.path.basename(path)}.jpg"
    content = instances_to_labelme(prediction.instances, name.replace(os.sep, "/"), prediction.class_names)
    with atomic_write(f"{path}.json", durable=False) as file:
        json.dump(content, file, indent=1)


def _write_yolo(prediction: Prediction, path: str, style: Style) -> None:
    del style
    with atomic_write(f"{path}.txt", durable=False) as file:
        file.writelines(f"{line}\n" for line in instances_to_yolo(prediction.instances))


def _write_masks(prediction: Prediction, path: str, style: Style) -> None:
    del style
    for i, mask in enumerate(instances_to_masks(prediction.instances), 1):
        _write_image(f"{path}_{i}.png", mask)


def _write_id_map(prediction: Prediction, path: str, style: Style) -> None:
    del style
    _write_image(f"{path}.png", instances_to_id_map(prediction.instances))


def _write_cutouts(prediction: Prediction, path: str, style: Style) -> None:
    del style
    for i, cutout in enumerate(instances_to_cutouts(prediction.instances, prediction.image), 1):
        if cutout.size:  # a mask may have no pixel
            _write_image(f"{path}_{i}.png", cutout)


PICTURES = Kind("pictures", "", (".jpg",), True, _write_picture)
KINDS = (
    PICTURES,
    Kind("labelme", "labelme", (".json", ".jpg"), False, _write_labelme),
    Kind("yolo", "labels", (".txt",), False, _write_yolo),
    Kind("masks", "masks", ("_[0-9]*.png",), True, _write_masks),
    Kind("id_maps", "id_maps", (".png",), True, _write_id_map),
    Kind("cutouts", "cutouts", ("_[0-9]*.png",), True, _write_cutouts),
)


def draw(prediction: Prediction, style: Style) -> Pixels:
    """Return a picture of the instances, or of a panoptic model's segments, (H, W, 3) uint8 in BGR order.

    Small images are enlarged until names are readable on them, and enormous ones reduced to what a JPEG can hold.
    """
    canvas = _canvas(prediction.image)[:, :, ::-1]
    if prediction.panoptic is None:
        return draw_predictions(canvas, prediction.instances, prediction.metadata, style)[:, :, ::-1]
    segmentation, segments = prediction.panoptic
    return draw_panoptic(
        *(canvas, segmentation, segments, prediction.metadata),
        score_threshold=prediction.score_threshold,
        style=style,
    )[:, :, ::-1]


def _canvas(image: Pixels) -> Any:
    if max(image.shape[:2]) > MAX_PICTURE:
        height, width = (max(1, n * MAX_PICTURE // max(image.shape[:2])) for n in image.shape[:2])
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    factor = -(-MIN_PICTURE // max(image.shape[:2]))
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR) if factor > 1 else image


def _write_image(path: str, picture: Any) -> None:
    """Write an image, (H, W) or (H, W, 3 or 4) in BGR order, as its suffix says."""
    suffix = Path(path).suffix
    _, encoded = cv2.imencode(suffix, picture, FAST_PNG if suffix == ".png" else [])
    with atomic_write(path, "wb", durable=False) as file:
        file.write(encoded.tobytes())
