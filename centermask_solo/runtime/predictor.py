"""From images to instances with an exported file; needs neither PyTorch nor Detectron2 for ONNX and OpenVINO."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.images import MAX_PIXELS
from ..data.input_images import Item, as_bgr, read_images, read_item
from ..data.pixel_limit import TooLargeError
from ..data.pixels import Pixels
from ..utils.errors import ConfigError, DataError, WeightsError
from ..utils.rules import BATCH, check_count, integer
from .formats import as_path
from .instances import MASK_FORMS, ExportedInstances, check_mask_form
from .pasting import Paster, mask_box
from .resizing import Batch, make_batches, resize
from .session import Arrays, open_file

OUTPUTS = {"boxes", "scores", "classes", "num_detections", "exact"}  # of every model that finds instances


class ExportedPredictor:
    """Predicts with an exported file as :class:`~centermask_solo.Predictor` does with weights; results are arrays.

    Attributes:
        path: The file.
        metadata: What the file says about itself.
        class_names: Names of the classes, in order; None if they are unknown.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        threads: int | None = None,
        providers: Sequence[Any] = (),
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        """
        Args:
            path: A file that ``centermask-solo export`` wrote: .onnx, .xml or .pt2.
            threads: Number of CPU threads, at most 1,024; None for the runtime's choice.
            providers: ONNX Runtime's execution providers, best first, such as "CUDAExecutionProvider"; or one device
                of OpenVINO. The CPU by default, in float32.
            max_pixels: Most pixels of an image file; 0 for no limit.

        Raises:
            ConfigError: An option is wrong, or the file is of an unknown format or has no detections.
            MissingPackageError: What runs the file is not installed, or in a version that does not work.
            WeightsError: The file is missing, damaged, or was made by another program or version.
        """
        if not integer(0).allows(max_pixels):
            raise ConfigError(f"max_pixels cannot be {max_pixels!r}: give 1 or more, or 0 for no limit")
        self.path = as_path(path)
        self._session, self.metadata = open_file(self.path, threads, providers)
        if self.metadata.variant == "raw":
            raise ConfigError(
                f"{self.path} has the variant raw, which ends before decoding: export the variant detections to predict"
            )
        needed = OUTPUTS if self.metadata.masks.frame == "none" else {*OUTPUTS, "masks"}
        if missing := sorted(needed - self.metadata.outputs.keys()):
            raise WeightsError(f"{self.path} lacks the output {missing[0]}: export it again with this version")
        names = self.metadata.class_names
        self.class_names = None if names is None else list(names)
        self._max_pixels = max_pixels

    def __call__(self, original_image: Any, *, masks: str = "dense") -> dict[str, ExportedInstances]:
        """Return ``{"instances": ExportedInstances}`` of one image, in its frame.

        Args:
            original_image: (H, W, 3) uint8 in BGR order, or what else
                :func:`~centermask_solo.data.input_images.as_bgr` accepts, such as a path.
            masks: How masks are given: "dense", "rle" or "polygons".

        Raises:
            DataError: It is no image.
        """
        return self.predict_batch([original_image], masks=masks)[0]

    def predict_batch(self, images: Sequence[Any], *, masks: str = "dense") -> list[dict[str, ExportedInstances]]:
        """Return the instances of images, in their order, which do not depend on the rest of the batch.

        Images that the network sees in different sizes run in turn.

        Args:
            images: As :meth:`__call__` takes them, of any sizes.
            masks: See there.

        Raises:
            DataError: One of them is no image.
        """
        check_mask_form(masks)
        if not isinstance(images, (list, tuple)):
            raise DataError(f"a batch of images must be a list, not a {type(images).__name__}")
        with _own_advice():
            originals = [as_bgr(image, self._max_pixels) for image in images]
        rule = self.metadata.input
        found = self.run([resize(x, rule) for x in originals], [x.shape[:2] for x in originals], masks)
        return [{"instances": x} for x in found]

    def predict_files(
        self,
        paths: Iterable[Item],
        batch_size: int = 1,
        failures: list[DataError] | None = None,
        *,
        masks: str = "rle",
    ) -> Iterator[tuple[Item, Pixels, dict[str, ExportedInstances]]]:
        """Yield the path, the image (BGR) and the output of each file; see :meth:`Predictor.predict_files`.

        Args:
            paths: Image files, or frames of videos.
            batch_size: Images that are read together.
            failures: Takes the errors of images that cannot be read, which are then left out; without it, the first
                such error is raised.
            masks: See :meth:`__call__`.

        Raises:
            ConfigError: ``batch_size`` is no number of images.
        """
        check_count(batch_size, BATCH)
        images = read_images(paths, 3, self._max_pixels, failures, read=_own_advice()(read_item))
        while batch := list(itertools.islice(images, batch_size)):
            outputs = self.predict_batch([image for *_, image in batch], masks=masks)
            yield from ((path, image, output) for (path, _, image), output in zip(batch, outputs, strict=True))

    def run(
        self, images: Sequence[Pixels], output_sizes: Sequence[tuple[int, ...]], masks: str = "dense"
    ) -> list[ExportedInstances]:
        """Return the instances of images that have been resized already.

        Args:
            images: (H, W, 3) uint8 in the channel order of the model, resized by its rule.
            output_sizes: Height and width of each result.
            masks: See :meth:`__call__`.

        Raises:
            WeightsError: The runtime returns other numbers of results than of images.
        """
        results: dict[int, ExportedInstances] = {}
        for batch in make_batches(images, self.metadata.input):
            feeds: Arrays = {"images": batch.images}
            if self.metadata.input.image_sizes:
                feeds["image_sizes"] = batch.sizes
            found = self._session.run(feeds)
            outputs = {what: found[name] for what, name in self.metadata.outputs.items()}
            if lost := next((what for what, x in outputs.items() if len(x) != len(batch.images)), ""):
                raise WeightsError(
                    f"{self.path} returned {len(outputs[lost])} {lost} for {len(batch.images)} images: its runtime "
                    "computes this model incorrectly; export it to another format, or without --int8"
                )
            for row, i in enumerate(batch.indices):
                height, width = output_sizes[i][:2]
                results[i] = self._postprocess(outputs, batch, row, (height, width), masks)
        return [results[i] for i in range(len(images))]

    def _postprocess(
        self, outputs: Arrays, batch: Batch, row: int, size: tuple[int, int], form: str
    ) -> ExportedInstances:
        """Return the instances of one image of a batch at the output size; those without pixels there are dropped."""
        number = int(outputs["num_detections"][row])
        used = (int(batch.sizes[row][0]), int(batch.sizes[row][1]))
        scale = np.array([size[1] / used[1], size[0] / used[0]] * 2, np.float32)
        whole = outputs["boxes"][row, :number].astype(np.float32) * scale
        boxes = np.clip(whole, 0, np.array([size[1], size[0]] * 2, np.float32))
        kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        pasted: list[Any] = []
        kind = self.metadata.masks
        if kind.frame != "none":
            probabilities = outputs["masks"][row]
            paste = self._paster((probabilities.shape[1], probabilities.shape[2]), used, size)
            kept |= kind.boxes
            for i in np.flatnonzero(kept):
                mask = paste(probabilities[i].astype(np.float32), whole[i] if kind.whole_boxes else boxes[i])
                if kind.boxes:
                    boxes[i] = mask_box(mask)
                    kept[i] = boxes[i, 2] > 0
                if kept[i]:
                    pasted.append(MASK_FORMS[form](mask))
        fields: dict[str, Any] = {
            "pred_boxes": boxes[kept],
            "scores": outputs["scores"][row, :number][kept].astype(np.float32),
            "pred_classes": outputs["classes"][row, :number][kept].astype(np.int64),
        }
        if "mask_scores" in outputs:
            fields["mask_scores"] = outputs["mask_scores"][row, :number][kept].astype(np.float32)
        if kind.frame != "none":
            fields["pred_masks"] = _stacked(pasted, size) if form == "dense" else pasted
        return ExportedInstances(size, bool(outputs["exact"][row]), **fields)

    def _paster(self, mask_size: tuple[int, int], used: tuple[int, int], size: tuple[int, int]) -> Paster:
        """Return what pastes masks of a size, of which an image uses so many pixels of the input, at the output size.

        Raises:
            WeightsError: Masks are smaller than the metadata tell.
        """
        kind = self.metadata.masks
        if kind.frame == "input" and kind.stride and (np.multiply(mask_size, kind.stride) < used).any():
            raise WeightsError(
                f"the description inside {self.path} is of another model, as its masks are smaller: export it again"
            )
        return Paster(kind, mask_size, used, size)


@contextmanager
def _own_advice() -> Iterator[None]:
    """Name the limit that an exported file has, not the option of a config, in the error of an image beyond it."""
    try:
        yield
    except TooLargeError as error:
        raise error.advising(f"give max_pixels={error.pixels} to ExportedPredictor") from None


def _stacked(masks: list[NDArray[np.bool_]], size: tuple[int, int]) -> NDArray[np.bool_]:
    return np.stack(masks) if masks else np.zeros((0, *size), bool)
