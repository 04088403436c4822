"""From images to instances, with the weights and class names of a checkpoint."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import detectron2.data.transforms as T
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.catalog import Metadata
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model

from ..checkpoint import Checkpointer
from ..modeling.systems import System, find_system
from ..utils.errors import ConfigError, DataError
from .sources import read_image


def default_score_threshold(cfg: CfgNode) -> float:
    """Return the score from which on detections of the config's system are worth keeping."""
    return (find_system(cfg.MODEL.META_ARCHITECTURE) or System).score_threshold


class Predictor(DefaultPredictor):
    """Detectron2's DefaultPredictor, also for several images at once.

    Differs: the weights must fill the model, and the class names in ``metadata`` come from the checkpoint if it has
    them, so that no dataset needs to be registered.
    """

    def __init__(self, cfg: CfgNode) -> None:
        """
        Args:
            cfg: Config as for DefaultPredictor; ``MODEL.WEIGHTS`` names the weights.

        Raises:
            ConfigError: No weights are named, or the images have another format than RGB or BGR.
            WeightsError: There is no such file, or it does not fill the model.
        """
        if not cfg.MODEL.WEIGHTS:
            raise ConfigError("MODEL.WEIGHTS is empty: name the weights to predict with")
        if cfg.INPUT.FORMAT not in ("RGB", "BGR"):
            raise ConfigError(f"INPUT.FORMAT is '{cfg.INPUT.FORMAT}': prediction supports RGB and BGR")
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
        """Return the model's output for one image, (H, W, 3) uint8 in BGR order, in the frame of that image."""
        return self.predict_batch([original_image])[0]

    @torch.no_grad()
    def predict_batch(self, images: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        """Return the model's outputs for ``images``, in their order, from one forward pass.

        Smaller images are padded to the largest, which can change the last digits of scores as in any Detectron2 model.

        Args:
            images: (H, W, 3) uint8 in BGR order, of any sizes.

        Raises:
            ConfigError: The model needs precomputed proposals, which images alone do not have.
        """
        if self.cfg.MODEL.LOAD_PROPOSALS:
            raise ConfigError(
                "this model needs precomputed proposals, which images alone do not have: predict with a model that "
                "makes its own, such as Faster R-CNN, or evaluate this one with train_net.py --eval-only"
            )
        if not images:
            return []
        return self.model([self._to_input(image) for image in images])

    def predict_files(
        self, paths: Iterable[str], batch_size: int = 1, failures: list[DataError] | None = None
    ) -> Iterator[tuple[str, np.ndarray, dict[str, Any]]]:
        """Yield the path, the image (BGR) and the model's output of each file, ``batch_size`` per forward pass.

        Args:
            paths: Image files.
            batch_size: Images per forward pass.
            failures: Takes the errors of images that cannot be read, which are then left out; without it, the first
                such error is raised.
        """
        images = _read_images(paths, failures)
        while batch := list(itertools.islice(images, batch_size)):
            outputs = self.predict_batch([image for _, image in batch])
            yield from ((path, image, output) for (path, image), output in zip(batch, outputs, strict=True))

    def _to_input(self, image: np.ndarray) -> dict[str, Any]:
        if self.input_format == "RGB":
            image = image[:, :, ::-1]
        height, width = image.shape[:2]
        resized = self.aug.get_transform(image).apply_image(image)
        tensor = torch.as_tensor(resized.astype("float32").transpose(2, 0, 1))
        return {"image": tensor, "height": height, "width": width}


def _read_images(paths: Iterable[str], failures: list[DataError] | None) -> Iterator[tuple[str, np.ndarray]]:
    for path in paths:
        try:
            yield path, read_image(path)
        except DataError as error:
            if failures is None:
                raise
            failures.append(error)


def _metadata(cfg: CfgNode, thing_classes: Sequence[str] | None) -> Metadata:
    """Return the class names of the checkpoint, or else those of the config's dataset if it is registered."""
    if thing_classes is not None:
        return Metadata(name=cfg.MODEL.WEIGHTS, thing_classes=list(thing_classes))
    if cfg.DATASETS.TEST and cfg.DATASETS.TEST[0] in MetadataCatalog.list():
        return MetadataCatalog.get(cfg.DATASETS.TEST[0])
    return Metadata(name=cfg.MODEL.WEIGHTS)
