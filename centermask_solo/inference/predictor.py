"""From images to instances, with the weights and class names of a checkpoint."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.catalog import Metadata
from detectron2.engine import DefaultPredictor

from ..checkpoint import Checkpointer
from ..config import default_config, value_of
from ..data.frames import Frame
from ..data.input_images import Item, as_bands, as_bgr, read_item
from ..data.pixels import Pixels
from ..data.transforms.resize import ResizeShortestEdge
from ..evaluation.by_name import set_class_names
from ..modeling.batches import run_by_padded_size
from ..modeling.engine import prepare_as_configured
from ..modeling.option_scope import check_options_are_read, max_detections
from ..modeling.parts import build_checked, check_device, needs_proposals
from ..modeling.systems import default_score_threshold, find_system
from ..modeling.tta import with_augmentation
from ..structures.mask_formats import MASK_FORMAT, MASK_FORMATS, SCORE_THRESHOLD, MaskFormat, with_options
from ..utils.errors import ConfigError, DataError
from ..utils.rules import BATCH, check_count
from ..utils.text import counted
from ..utils.threads import in_threads, threads_beside


class _Read(NamedTuple):
    item: Any
    image: Pixels
    model_input: dict[str, Any]


class Predictor(DefaultPredictor):
    """Detectron2's DefaultPredictor, also for several images at once.

    The model is prepared for prediction: see :func:`~centermask_solo.modeling.engine.prepare`.

    Attributes:
        mask_format: What ``pred_masks`` are.
        threads: How many threads of a kind help the main one where :meth:`predict_files` is used.
        max_detections: Most instances of an image; negative for no limit.
        score_threshold: Score from which on detections are worth keeping.
        channels: Number of channels of the images.
        max_pixels: Most pixels of an image file; 0 for no limit.

    Differs: the weights must fill the model, and the class names in ``metadata`` come from the checkpoint if it has
    them, so that no dataset needs to be registered.
    """

    def __init__(
        self,
        cfg: CfgNode,
        class_names: Sequence[str] | None = None,
        *,
        mask_format: MaskFormat = "dense",
        dtype: str | None = None,
    ) -> None:
        """
        Args:
            cfg: Config as for DefaultPredictor; ``MODEL.WEIGHTS`` names the weights.
            class_names: Names of the classes, in order; by default those of the checkpoint, or else those of the
                config's dataset if it is registered and has as many classes as the model.
            mask_format: What ``pred_masks`` are: "dense", a bool tensor (M, H, W); "cropped",
                :class:`~centermask_solo.structures.compact_masks.CroppedMasks`, boxes and the pixels in them; "rle",
                :class:`~centermask_solo.structures.compact_masks.RLEMasks`, run-length codes; "compact", cropped, or
                codes if the crops of an image would take more than 256 MiB. All but "dense" never need the memory of
                a tensor.
            dtype: Precision of the networks, in place of ``TEST.DTYPE``.

        Raises:
            ConfigError: The mask format is unknown, no weights are named, the images have another format than RGB or
                BGR, the device cannot be used or cannot compute in the precision, or there are more or fewer class
                names than classes.
            WeightsError: There is no such file, or it does not fill the model.
        """
        if mask_format not in MASK_FORMATS:
            raise ConfigError(f"the mask format {mask_format!r} is unknown: use {', '.join(MASK_FORMATS)}")
        if not cfg.MODEL.WEIGHTS:
            raise ConfigError("MODEL.WEIGHTS is empty: name the weights to predict with")
        if cfg.INPUT.FORMAT not in ("RGB", "BGR"):
            raise ConfigError(f"INPUT.FORMAT is '{cfg.INPUT.FORMAT}': prediction supports RGB and BGR")
        check_options_are_read(cfg, default_config())
        check_device(cfg.MODEL.DEVICE)
        self.cfg = cfg = cfg.clone()
        if dtype is not None:
            cfg.merge_from_list(["TEST.DTYPE", dtype])
        self.mask_format = mask_format
        self.threads = threads_beside(torch.device(cfg.MODEL.DEVICE).type)
        self.model = build_checked(self.cfg).eval()
        checkpoint = Checkpointer(self.model, complete=True).load(cfg.MODEL.WEIGHTS)
        prepare_as_configured(self.model, cfg)
        names = checkpoint.get("thing_classes") if class_names is None else class_names
        if class_names is not None and _num_classes(cfg) not in (0, len(class_names)):
            raise ConfigError(
                f"the model has {counted(_num_classes(cfg), 'class')}, but "
                f"{counted(len(class_names), 'name')} given: give one for each"
            )
        set_class_names(self.model, names)
        if cfg.TEST.AUG.ENABLED:
            self.model = with_augmentation(cfg, self.model)
        self.metadata = _metadata(cfg, names)
        size = cfg.INPUT.MIN_SIZE_TEST
        self.aug = ResizeShortestEdge([size, size], cfg.INPUT.MAX_SIZE_TEST)
        self.input_format = cfg.INPUT.FORMAT
        self.channels, self.max_pixels = cfg.INPUT.CHANNELS, cfg.INPUT.MAX_IMAGE_PIXELS
        self.score_threshold, self.max_detections = default_score_threshold(cfg), max_detections(cfg)

    def __call__(self, original_image: Any) -> dict[str, Any]:
        """Return the model's output for one image, in the frame of that image.

        Args:
            original_image: (H, W, 3) uint8 in BGR order, or what else
                :func:`~centermask_solo.data.input_images.as_bgr` accepts.

        Raises:
            ConfigError: See :meth:`predict_batch`.
            DataError: It is no image.
        """
        return self.predict_batch([original_image])[0]

    def predict_batch(self, images: Sequence[Any]) -> list[dict[str, Any]]:
        """Return the model's outputs for ``images``, in their order, which do not depend on the rest of the batch.

        Images that the model would pad to different sizes run in separate forward passes.

        Args:
            images: As :meth:`__call__` takes them, of any sizes.

        Raises:
            DataError: One of them is no image.
            ConfigError: The model needs precomputed proposals, which images alone do not have.
        """
        if not isinstance(images, (list, tuple)):
            raise DataError(f"a batch of images must be a list, not a {type(images).__name__}")
        return self.predict_images([self.read(image) for image in images])

    def predict_files(
        self,
        paths: Iterable[Item],
        batch_size: int = 1,
        failures: list[DataError] | None = None,
        *,
        score_threshold: float | None = None,
        threads: int | None = None,
    ) -> Generator[tuple[Item, np.ndarray, dict[str, Any]], None, None]:
        """Yield the path, the image (BGR) and the model's output of each file, ``batch_size`` per forward pass.

        While the model computes, threads read and resize the next images, at most a batch and one per thread more.
        Closing the iterator ends them.

        Args:
            paths: Image files, or frames of videos, which are yielded in place of a path.
            batch_size: Images per forward pass.
            failures: Takes the errors of images that cannot be read, which are then left out; without it, the first
                such error is raised.
            score_threshold: Detections of lower scores are left out before their masks are made; by default none.
            threads: Threads that read; by default :attr:`threads`. With 0, one thing follows the other.

        Raises:
            ConfigError: ``batch_size`` is no number of images.
        """
        check_count(batch_size, BATCH)
        threads = self.threads if threads is None else threads
        with closing(in_threads(self._read, paths, threads, batch_size + threads)) as found:
            images = _readable(found, failures)
            while batch := list(itertools.islice(images, batch_size)):
                outputs = self._predict([x.model_input for x in batch], score_threshold)
                yield from ((x.item, x.image, output) for x, output in zip(batch, outputs, strict=True))

    def predict_images(self, images: Sequence[Any], score_threshold: float | None = None) -> list[dict[str, Any]]:
        """Return what :meth:`predict_batch` does for images of :meth:`read`, without detections of lower scores."""
        return self._predict([self.model_input(image) for image in images], score_threshold)

    @torch.no_grad()
    def _predict(self, inputs: Sequence[dict[str, Any]], score_threshold: float | None = None) -> list[dict[str, Any]]:
        """Return the model's outputs for its inputs."""
        if needs_proposals(self.cfg):
            raise ConfigError(
                "this model needs precomputed proposals, which images alone do not have: predict with a model that "
                "makes its own, such as Faster R-CNN, or evaluate this one with train_net.py --eval-only"
            )
        options = {MASK_FORMAT: self.mask_format, SCORE_THRESHOLD: score_threshold}
        inputs = [{**x, **options} for x in inputs]
        outputs = run_by_padded_size(lambda indices: self.model([inputs[i] for i in indices]), inputs, self.model)
        return [{**x, "instances": with_options(x["instances"], options)} if "instances" in x else x for x in outputs]

    def _read(self, item: str | Frame) -> _Read | DataError:
        """Return an image file or a frame, ready for the model, or why it cannot be read."""
        try:
            shown, image = read_item(item, self.channels, self.max_pixels)
            return _Read(item, shown, self.model_input(image))
        except DataError as error:
            return error

    def read(self, image: Any) -> np.ndarray:
        """Return an image that :meth:`__call__` takes as pixels with the channels of the model, BGR if these are three.

        Raises:
            DataError: It is no image, or has other channels.
        """
        if self.channels == 3:
            return as_bgr(image, self.max_pixels)
        return as_bands(image, self.channels, self.max_pixels)

    def model_input(self, image: np.ndarray) -> dict[str, Any]:
        """Return what the model takes for an image of :meth:`read`."""
        if self.input_format == "RGB" and self.channels == 3:
            image = image[:, :, ::-1]
        height, width = image.shape[:2]
        if self.cfg.TEST.AUG.ENABLED:  # whose views are made of the image itself
            pixels = np.ascontiguousarray(image.transpose(2, 0, 1))
            return {"image": torch.from_numpy(pixels), "height": height, "width": width}
        resized = self.aug.get_transform(image).apply_image(image)
        tensor = torch.as_tensor(resized.astype("float32").transpose(2, 0, 1))
        return {"image": tensor, "height": height, "width": width}


def _readable(found: Iterable[_Read | DataError], failures: list[DataError] | None) -> Iterator[_Read]:
    """Yield the images that could be read; put the errors of the others into ``failures``, or raise the first."""
    for x in found:
        if isinstance(x, _Read):
            yield x
        elif failures is None:
            raise x
        else:
            failures.append(x)


def _num_classes(cfg: CfgNode) -> int:
    """Return the number of classes that a config states; 0 if it is unknown."""
    system = find_system(cfg.MODEL.META_ARCHITECTURE)
    return value_of(cfg, system.num_classes_key) if system else 0


def _metadata(cfg: CfgNode, thing_classes: Sequence[str] | None) -> Metadata:
    """Return these class names, or else those of the config's dataset if it is registered and fits the model.

    Names of stuff are always those of the dataset, because checkpoints have none.
    """
    registered = bool(cfg.DATASETS.TEST) and cfg.DATASETS.TEST[0] in MetadataCatalog.list()
    dataset = MetadataCatalog.get(cfg.DATASETS.TEST[0]) if registered else Metadata()
    if thing_classes is None and _num_classes(cfg) in (0, len(dataset.get("thing_classes", []))):
        return dataset if registered else Metadata(name=cfg.MODEL.WEIGHTS)
    names = {"thing_classes": thing_classes, "stuff_classes": dataset.get("stuff_classes")}
    if len(names["stuff_classes"] or ()) != cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES:
        del names["stuff_classes"]
    return Metadata(name=cfg.MODEL.WEIGHTS, **{key: list(value) for key, value in names.items() if value is not None})
