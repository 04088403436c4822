"""Measure prediction: time of each stage, rates and memory, of several configs, interleaved."""

from __future__ import annotations

import itertools
import os
import platform
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import detectron2
import numpy as np
import torch
from detectron2.config import CfgNode
from torch import nn

from ..checkpoint import Checkpointer
from ..config import AUTO_NUMBER, value_of
from ..data.transforms.resize import ResizeShortestEdge
from ..modeling.batches import padded_size
from ..modeling.parts import build_checked, build_empty, check_device, needs_proposals
from ..modeling.systems import find_system
from ..utils.errors import ConfigError
from ..utils.memory import forget_highest, highest_resident_bytes, resident_bytes
from ..utils.rules import BATCH, check_count, check_image_size
from .benchmark_exported import MeasuredFile, precision_of
from .predictor import Predictor
from .stages import NETWORK, STAGES, Clock, predict_in_stages

GENERATED_SIZE = (480, 640)  # height and width; the most frequent ones in COCO
WARM_UP = 2  # runs that are not measured
NUM_CLASSES = 80  # of a model without weights whose config takes the number from the data
TOTAL = "end to end"


@dataclass
class Measured:
    """What prediction with one config took.

    Attributes:
        name: Of the config, in tables.
        dtype: Precision of the networks.
        weights: Where they are from; "" for random ones.
        device: Where the model is.
        parameters: Number of parameters; None if an exported file does not say.
        input_sizes: (height, width) of the network's inputs, padded; empty if an exported file does not say.
        detections: Mean number per image.
        seconds: Per image, of each run, by stage of :data:`.stages.STAGES` and in total.
        memory: Peak bytes: "process" and "added" by a run on a CPU; "tensors" on a GPU.
    """

    name: str
    dtype: str
    weights: str
    device: str
    parameters: int | None
    input_sizes: list[tuple[int, int]] = field(default_factory=list)
    detections: float = 0.0
    seconds: dict[str, list[float]] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)

    def median(self, stage: str = TOTAL) -> float:
        """Return the median of a stage, seconds per image."""
        return float(np.median(self.seconds[stage]))

    def p90(self, stage: str = TOTAL) -> float:
        """Return what nine of ten runs of a stage stay below, seconds per image."""
        return float(np.percentile(self.seconds[stage], 90))

    @property
    def network_rate(self) -> float | None:
        """Images per second of the network alone; None if the model does not separate it from decoding."""
        return 1 / self.median(NETWORK) if NETWORK in self.seconds else None


@dataclass
class Report:
    """The measurements of all configs, and what they depend on."""

    machine: dict[str, Any]
    images: str
    batch_size: int
    runs: int
    cpu_time: bool
    measured: list[Measured]

    def to_json(self) -> dict[str, Any]:
        """Return everything in plain values, with medians and rates."""
        rows = [
            {
                **asdict(x),
                "median_s": {stage: x.median(stage) for stage in x.seconds},
                "p90_s": {stage: x.p90(stage) for stage in x.seconds},
                "images_per_s": 1 / x.median(),
                "network_images_per_s": x.network_rate,
            }
            for x in self.measured
        ]
        return {**asdict(self), "measured": rows}


def benchmark(
    cfgs: Mapping[str, CfgNode | str],
    paths: Sequence[str] = (),
    *,
    size: tuple[int, int] = GENERATED_SIZE,
    batch_size: int = 1,
    runs: int = 10,
    threads: int | None = None,
    cpu_time: bool = False,
) -> Report:
    """Return the measurements of prediction with each config, which take turns, so that all meet the same machine.

    Args:
        cfgs: Configs, or paths of exported files, by the names that the report gives them. ``MODEL.WEIGHTS`` "" stands
            for random weights, which take as long in the network, but detect another number of objects.
        paths: Image files; by default images are generated.
        size: (height, width) of generated images.
        batch_size: Images per forward pass.
        runs: Measured runs of each config, of ``batch_size`` images each, after :data:`WARM_UP` more.
        threads: CPU threads of PyTorch, and of what runs exported files; by default as they are.
        cpu_time: Whether to measure the CPU time of all threads instead of the wall, which a busy machine slows.

    Raises:
        ConfigError: A number or a size is none, a config cannot predict, or CPU time is asked for on a GPU.
        DataError: An image cannot be read.
        WeightsError: Weights do not fill their model.
    """
    check_count(batch_size, BATCH)
    check_count(runs, "runs")
    check_image_size(size)
    if threads is not None:
        check_count(threads, "threads", "give 1 or more, or None to leave them as they are")
        torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        files = list(paths) or _generate(folder, size, max(batch_size, 4))
        subjects = [
            (_ExportedSubject if isinstance(cfg, str) else _Subject)(name, cfg, files, batch_size, cpu_time)
            for name, cfg in cfgs.items()
        ]
        for run in range(WARM_UP + runs):
            for subject in subjects:
                subject.run(measured=run >= WARM_UP)
    what = f"{len(paths)} file{'s' * (len(paths) > 1)}" if paths else f"generated, {size[0]} x {size[1]}"
    return Report(machine(), what, batch_size, runs, cpu_time, [x.finished() for x in subjects])


class _Subject:
    """A config whose prediction is measured."""

    def __init__(self, name: str, source: Any, files: Sequence[str], batch_size: int, cpu_time: bool) -> None:
        self._files, self._batch_size = itertools.cycle(files), batch_size
        self._counts: list[int] = []
        self._sizes: dict[tuple[int, int], None] = {}
        self._measured = self._load(name, source, cpu_time)

    def _load(self, name: str, cfg: CfgNode, cpu_time: bool) -> Measured:
        """Load the model; return a record without measurements."""
        if needs_proposals(cfg):
            raise ConfigError(f"{name} needs precomputed proposals, which images alone do not have: choose another")
        self.predictor = load_predictor(cfg)
        self._device = torch.device(cfg.MODEL.DEVICE)
        self._clock = Clock(self._device, cpu_time)
        parameters = sum(x.numel() for x in build_empty(self.predictor.cfg).parameters())  # before preparation
        return Measured(name, cfg.TEST.DTYPE, cfg.MODEL.WEIGHTS, cfg.MODEL.DEVICE, parameters)

    def _predict(self, batch: list[str]) -> list[int]:
        """Return the numbers of detections in images; the clock measures the stages."""
        with self._watch_input():
            return list(map(len, predict_in_stages(self.predictor, batch, self._clock)))

    def run(self, measured: bool) -> None:
        """Predict a batch."""
        batch = list(itertools.islice(self._files, self._batch_size))
        before = self._start_memory()
        counts = self._predict(batch)
        seconds = self._clock.read()
        self._read_memory(before)
        if not measured:
            return
        self._counts += counts
        for stage, value in (seconds | {TOTAL: sum(seconds.values())}).items():
            self._measured.seconds.setdefault(stage, []).append(value / len(batch))

    def finished(self) -> Measured:
        """Return the measurements, stages in their order."""
        found = self._measured
        found.detections = float(np.mean(self._counts))
        found.input_sizes = list(self._sizes)
        found.seconds = {x: found.seconds[x] for x in (*STAGES, TOTAL) if x in found.seconds}
        return found

    def _watch_input(self) -> Any:
        """Return a context in which the size of the backbone's input is noted."""
        backbone = getattr(self.predictor.model, "backbone", self.predictor.model)
        return backbone.register_forward_pre_hook(lambda _, args: self._sizes.setdefault(tuple(args[0].shape[-2:])))

    def _start_memory(self) -> int:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            return 0
        forget_highest()
        return resident_bytes()

    def _read_memory(self, before: int) -> None:
        peak, memory = highest_resident_bytes(), self._measured.memory
        found = {"process": peak, "added": peak - before}
        if self._device.type == "cuda":
            found = {"tensors": torch.cuda.max_memory_allocated(self._device)}
        memory.update({key: max(value, memory.get(key, 0)) for key, value in found.items()})


class _ExportedSubject(_Subject):
    """An exported file whose prediction is measured."""

    def _load(self, name: str, path: str, cpu_time: bool) -> Measured:
        self._device = torch.device("cpu")
        self._clock = Clock(self._device, cpu_time)
        self._file = MeasuredFile(path, torch.get_num_threads(), self._clock)
        self._sizes = self._file.input_sizes
        return Measured(name, precision_of(self._file.metadata), path, "cpu", None)

    def _predict(self, batch: list[str]) -> list[int]:
        return self._file.predict(batch)


def load_predictor(cfg: CfgNode) -> Predictor:
    """Return the predictor of a config, with random weights, always the same, if it names none."""
    if cfg.MODEL.WEIGHTS:
        return Predictor(cfg)
    check_device(cfg.MODEL.DEVICE)
    cfg = cfg.clone()
    set_num_classes(cfg)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        Checkpointer(build_checked(cfg), folder, config=cfg.dump()).save("random")
        cfg.MODEL.WEIGHTS = os.path.join(folder, "random.pth")
        return Predictor(cfg)


def set_num_classes(cfg: CfgNode) -> None:
    """Give a config whose number of classes is that of the data the one of COCO."""
    system = find_system(cfg.MODEL.META_ARCHITECTURE)
    if system is not None and value_of(cfg, system.num_classes_key) == AUTO_NUMBER:
        cfg.merge_from_list([system.num_classes_key, NUM_CLASSES])


def input_size(cfg: CfgNode, model: nn.Module, size: tuple[int, int]) -> tuple[int, int]:
    """Return the (height, width) that the networks get for an image of ``size``, resized and padded."""
    resized = ResizeShortestEdge.get_output_shape(*size, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
    height, width = padded_size((len(cfg.MODEL.PIXEL_MEAN), *resized), model)[-2:]
    return height, width


def _generate(folder: str, size: tuple[int, int], count: int) -> list[str]:
    """Write JPEG files of blurred colors and rectangles, always the same; return their paths."""
    rng, paths = np.random.default_rng(0), []
    for i in range(count):
        image = cv2.resize(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8), size[::-1])
        for _ in range(20):
            (x0, x1), (y0, y1) = rng.integers(size[1], size=2).tolist(), rng.integers(size[0], size=2).tolist()
            cv2.rectangle(image, (x0, y0), (x1, y1), rng.integers(0, 255, 3).tolist(), thickness=-1)
        paths.append(os.path.join(folder, f"{i}.jpg"))
        cv2.imwrite(paths[-1], image)
    return paths


def machine() -> dict[str, Any]:
    """Return the hardware and the versions that measurements depend on."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        "torch": torch.__version__,
        "detectron2": detectron2.__version__,
    }
