"""ONNX models whose convolutions multiply 8-bit integers, with ranges that are measured on images."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from tqdm import tqdm

from ..data.pixels import Pixels
from ..runtime.metadata import Input
from ..runtime.resizing import make_batches
from ..utils.errors import ConfigError


@dataclass(frozen=True)
class Calibration:
    """What the ranges are measured on, and which convolutions gain.

    Attributes:
        images: (H, W, 3) uint8, resized and in the channel order of the model.
        weights: Names of the weights of convolutions that can do without float32.
    """

    images: Sequence[Pixels]
    weights: frozenset[str]


def quantize(model: onnx.ModelProto, calibration: Calibration, rule: Input) -> onnx.ModelProto:
    """Return a model with the inputs, outputs and weights of its convolutions rounded to 8-bit integers.

    Weights have a scale for each output channel, feature maps one for all of their values, which spans what the images
    show. Runtimes replace a convolution and the rounding around it by one of integers when they load the file.

    Args:
        model: In float32.
        calibration: Images and convolutions.
        rule: What the model takes.

    Raises:
        ConfigError: No convolution gains.
    """
    chosen = [x.name for x in model.graph.node if x.op_type == "Conv" and x.input[1] in calibration.weights]
    if not chosen:
        raise ConfigError("no convolution of this model gains from 8-bit integers: export it without --int8")
    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = os.path.join(folder, "int8.onnx")
        quantize_static(
            model,
            path,
            _Images(calibration.images, rule),
            op_types_to_quantize=["Conv"],
            nodes_to_quantize=chosen,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(path)


class _Images(CalibrationDataReader):
    """The inputs of the graph, one image at a time."""

    def __init__(self, images: Sequence[Pixels], rule: Input) -> None:
        self._feeds = self._feed(images, rule)

    @staticmethod
    def _feed(images: Sequence[Pixels], rule: Input) -> Iterator[dict[str, Any]]:
        for image in tqdm(images, desc="calibrate"):
            (batch,) = make_batches([image], rule)
            yield {"images": batch.images, **({"image_sizes": batch.sizes} if rule.image_sizes else {})}

    def get_next(self) -> dict[str, Any] | None:
        """Return the next inputs by name; None after the last."""
        return next(self._feeds, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep a hint at another tool, which would need sizes that are fixed, from the screen."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        yield
    finally:
        logging.disable(before)
