"""Prediction taken apart: each stage from the file of an image to codes of its masks, with a clock."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.structures import Instances

from ..modeling.batches import run_by_padded_size
from ..structures.mask_formats import coco_results
from ..utils.errors import ConfigError
from .input_images import as_bgr
from .predictor import Predictor

READ, RESIZE, NORMALIZE, NETWORK = "read", "resize", "normalize and pad", "network"
DECODE, MASKS, MODEL, RLE = "decode and NMS", "masks", "network, decoding and masks", "RLE"
STAGES = (READ, RESIZE, NORMALIZE, NETWORK, DECODE, MASKS, MODEL, RLE)  # MODEL where a model has no stages of its own
VERBS = ("preprocess_image", "predict", "inference", "postprocess")


class Clock:
    """Measures stages: on a CPU by the wall, on a GPU by events in the stream of its work, which stop nothing."""

    def __init__(self, device: torch.device, cpu_time: bool = False) -> None:
        """
        Args:
            device: Where the models are.
            cpu_time: Whether to measure the CPU time of all threads instead, on a CPU.

        Raises:
            ConfigError: CPU time is asked for on a GPU.
        """
        if cpu_time and device.type != "cpu":
            raise ConfigError(f"CPU time says nothing of the work on '{device}': measure without --cpu-time")
        self._device = device
        self._read_cpu = time.process_time if cpu_time else time.perf_counter
        self._marks: list[tuple[str, Any, Any]] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time inside the context to a stage."""
        begin = self._now()
        yield
        self._marks.append((name, begin, self._now()))

    def read(self) -> dict[str, float]:
        """Return the seconds of each stage since the last call, once the device has finished its work."""
        marks, self._marks = self._marks, []
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        seconds: dict[str, float] = {}
        for name, begin, end in marks:
            seconds[name] = seconds.get(name, 0) + self._between(begin, end)
        return seconds

    def _now(self) -> Any:
        if self._device.type != "cuda":
            return self._read_cpu()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _between(self, begin: Any, end: Any) -> float:
        return float(begin.elapsed_time(end)) / 1000 if self._device.type == "cuda" else end - begin


@torch.no_grad()
def predict_in_stages(predictor: Predictor, paths: Sequence[str], clock: Clock) -> list[list[dict[str, Any]]]:
    """Return the detections in images, in COCO's format, as ``predict`` does, and let a clock measure each stage.

    Args:
        predictor: Has the model, and the options of its input.
        paths: Image files of a batch.
        clock: Measures the stages of :data:`STAGES`.
    """
    with clock.stage(READ):
        images = [as_bgr(path, predictor.cfg.INPUT.MAX_IMAGE_PIXELS) for path in paths]
    with clock.stage(RESIZE):
        inputs = [predictor._to_input(image) for image in images]
    run = _verb_by_verb if all(hasattr(predictor.model, x) for x in VERBS) else _at_once
    outputs = run_by_padded_size(
        lambda indices: run(predictor.model, [inputs[i] for i in indices], clock), inputs, predictor.model
    )
    with clock.stage(RLE):
        return [coco_results(instances.to("cpu"), i) for i, instances in enumerate(outputs)]


def _verb_by_verb(model: Any, inputs: list[dict[str, Any]], clock: Clock) -> list[Instances]:
    """Return the detections of a model that has the verbs of this package's systems; see ``InstanceSegmentor``."""
    with clock.stage(NORMALIZE):
        images = model.preprocess_image(inputs)
    with clock.stage(NETWORK):
        predictions = model.predict(images.tensor)
    with clock.stage(DECODE):
        results = model.inference(predictions, images.image_sizes)
    with clock.stage(MASKS):
        return [
            model.postprocess(result, predictions, i, (x["height"], x["width"]))
            for i, (result, x) in enumerate(zip(results, inputs, strict=True))
        ]


def _at_once(model: Any, inputs: list[dict[str, Any]], clock: Clock) -> list[Instances]:
    """Return the detections of any model of Detectron2's."""
    with clock.stage(MODEL):
        return [output["instances"] for output in model(inputs)]
