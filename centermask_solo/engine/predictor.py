"""From images to instances, with the weights and class names of a checkpoint."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from glob import glob
from typing import Any

import detectron2.data.transforms as T
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.catalog import Metadata
from detectron2.data.detection_utils import read_image as read_with_detectron2
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model

from ..checkpoint import Checkpointer

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


class Predictor(DefaultPredictor):
    """Detectron2's DefaultPredictor, also for several images at once.

    Differs from it: the weights must fill the model, and the class names in ``metadata`` come from the checkpoint where
    it has them, so that neither dataset nor registration is needed.
    """

    def __init__(self, cfg: CfgNode) -> None:
        """
        Args:
            cfg: as for DefaultPredictor; ``MODEL.WEIGHTS`` names the weights.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: no weights are named, or they are of another model.
        """
        if not cfg.MODEL.WEIGHTS:
            raise ValueError("MODEL.WEIGHTS is empty: name the weights to predict with")
        if cfg.INPUT.FORMAT not in ("RGB", "BGR"):
            raise ValueError(f"INPUT.FORMAT is '{cfg.INPUT.FORMAT}': prediction knows RGB and BGR")
        self.cfg = cfg.clone()
        self.model = build_model(self.cfg).eval()
        if cfg.MODEL.CHANNELS_LAST:
            self.model.to(memory_format=torch.channels_last)
        checkpoint = Checkpointer(self.model, complete=True).load(cfg.MODEL.WEIGHTS)
        self.metadata = _metadata(cfg, checkpoint.get("thing_classes"))
        size = cfg.INPUT.MIN_SIZE_TEST
        self.aug = T.ResizeShortestEdge([size, size], cfg.INPUT.MAX_SIZE_TEST)
        self.input_format = cfg.INPUT.FORMAT

    def __call__(self, original_image: np.ndarray) -> dict[str, Any]:
        """The model's output for one image, (H, W, 3) uint8 in BGR order, in the frame of that image."""
        return self.predict_batch([original_image])[0]

    @torch.no_grad()
    def predict_batch(self, images: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        """The model's outputs for ``images``, in their order, from one pass through the networks.

        Smaller images are padded to the largest; as with any Detectron2 model, that can move scores in the last digits.

        Args:
            images: (H, W, 3) uint8 in BGR order, of any sizes.
        """
        if not images:
            return []
        return self.model([self._to_input(image) for image in images])

    def predict_files(
        self, paths: Iterable[str], batch_size: int = 1
    ) -> Iterator[tuple[str, np.ndarray, dict[str, Any]]]:
        """For each file in order: its path, the image (BGR) and the model's output; ``batch_size`` images at once."""
        rest = iter(paths)
        while batch := list(itertools.islice(rest, batch_size)):
            images = [read_image(path) for path in batch]
            yield from zip(batch, images, self.predict_batch(images), strict=True)

    def _to_input(self, image: np.ndarray) -> dict[str, Any]:
        if self.input_format == "RGB":
            image = image[:, :, ::-1]
        height, width = image.shape[:2]
        resized = self.aug.get_transform(image).apply_image(image)
        tensor = torch.as_tensor(resized.astype("float32").transpose(2, 0, 1))
        return {"image": tensor, "height": height, "width": width}


def _metadata(cfg: CfgNode, thing_classes: Sequence[str] | None) -> Metadata:
    """With the class names of the checkpoint; without, those of the dataset of the config, if it is registered."""
    if thing_classes is not None:
        return Metadata(name=cfg.MODEL.WEIGHTS, thing_classes=list(thing_classes))
    if cfg.DATASETS.TEST and cfg.DATASETS.TEST[0] in MetadataCatalog.list():
        return MetadataCatalog.get(cfg.DATASETS.TEST[0])
    return Metadata(name=cfg.MODEL.WEIGHTS)


def read_image(path: str) -> np.ndarray:
    """The image, (H, W, 3) uint8 in BGR order, turned as its EXIF data says.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it is no image that can be read.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no image {path}")
    try:
        return read_with_detectron2(path, "BGR")
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as an image, it is damaged or of an unknown kind: {error}") from error


def find_images(inputs: Sequence[str]) -> list[str]:
    """The image files that ``inputs`` name: files, folders (their images, not those of folders inside) and patterns.

    Raises:
        FileNotFoundError: one of them names none.
    """
    paths: list[str] = []
    for name in inputs:
        if os.path.isdir(name):
            found = [os.path.join(name, f) for f in sorted(os.listdir(name)) if f.lower().endswith(IMAGE_SUFFIXES)]
        else:
            found = [name] if os.path.isfile(name) else sorted(glob(name, recursive=True))
        if not found:
            raise FileNotFoundError(f"there is no image {name}")
        paths += found
    return paths
