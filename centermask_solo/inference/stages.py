"""Prediction taken apart: each stage from the file of an image to codes of its masks, with a clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from ..structures.mask_formats import coco_results
from ..utils.errors import ConfigError
from .predictor import Predictor

READ, RESIZE, NORMALIZE, NETWORK = "read", "resize", "normalize and pad", "network"
DECODE, MASKS, MODEL, RLE = "decode and NMS", "masks", "network, decoding and masks", "RLE"
STAGES = (READ, RESIZE, NORMALIZE, NETWORK, DECODE, MASKS, MODEL, RLE)  # MODEL where a model has no stages of its own
# Methods of this package's systems; "paste" is what they call instead of "postprocess" where no host may wait
_STAGES_OF_METHODS = {"preprocess_image": NORMALIZE, "predict": NETWORK, "postprocess": MASKS, "paste": MASKS}


class Clock:
    """Measures stages: on a CPU by the wall, on a GPU by events in the stream of its work, which stop nothing.

    A stage inside another one does not count to that.
    """

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
        self._marks: list[tuple[str, str | None, Any, Any]] = []  # stage, the one around it, begin, end
        self._open: list[str] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time inside the context to a stage."""
        around, begin = self._open[-1] if self._open else None, self._now()
        self._open.append(name)
        try:
            yield
        finally:
            self._open.pop()
            self._marks.append((name, around, begin, self._now()))

    def read(self) -> dict[str, float]:
        """Return the seconds of each stage since the last call, once the device has finished its work."""
        marks, self._marks = self._marks, []
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        seconds: dict[str, float] = {}
        for name, around, begin, end in marks:
            duration = self._between(begin, end)
            seconds[name] = seconds.get(name, 0) + duration
            if around is not None:
                seconds[around] = seconds.get(around, 0) - duration
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
        images = [predictor.read(path) for path in paths]
    with clock.stage(RESIZE):
        inputs = [predictor.model_input(image) for image in images]
    model = predictor.model
    has_stages = hasattr(model, "predict")
    methods = [(model, name, stage) for name, stage in _STAGES_OF_METHODS.items() if hasattr(model, name)]
    with methods_measured(methods if has_stages else [], clock), clock.stage(DECODE if has_stages else MODEL):
        outputs = predictor._predict(inputs)
    with clock.stage(RLE):
        return [coco_results(output["instances"].to("cpu"), i) for i, output in enumerate(outputs)]


@contextmanager
def methods_measured(methods: Sequence[tuple[Any, str, str]], clock: Clock) -> Iterator[None]:
    """Inside the context, let a clock measure methods of objects as stages.

    Args:
        methods: Objects, names of their methods, and the stages that these are.
        clock: Measures them.
    """

    def measured(function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            with clock.stage(stage):
                return function(*args, **kwargs)

        return run

    # An object may have a method of its own in place of its class's, as a model in half precision does
    before = [(owner, name, vars(owner)[name]) for owner, name, _ in methods if name in vars(owner)]
    for owner, name, stage in methods:
        setattr(owner, name, measured(getattr(owner, name), stage))
    try:
        yield
    finally:
        for owner, name, _ in methods:
            delattr(owner, name)
        for owner, name, function in before:
            setattr(owner, name, function)
