"""From a predictor to an exported file."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from detectron2.utils.file_io import PathManager
from torch.export import ExportedProgram

from .. import __version__
from ..config import value_of
from ..data.pixels import Pixels
from ..inference.predictor import Predictor
from ..modeling.instance_part import detection_limits, instance_part
from ..modeling.mask_frame import MaskFrame
from ..modeling.quantization import quantizable
from ..modeling.systems import default_score_threshold, find_system
from ..ops.topk import MAX_TOPK
from ..runtime.formats import Format, check_choice, check_packages, package_version, resolve
from ..runtime.metadata import Input, Masks, Metadata, Resize
from ..utils.errors import ConfigError
from ..utils.files import sha256_of
from ..utils.rules import check_image_size, integer
from ..utils.text import counted
from .graph import ExportedGraph, GraphInput
from .program import min_size, output_names, trace
from .target import Target

logger = logging.getLogger(__name__)

MAX_DETECTIONS = 100  # of a model without a limit of its own
MAX_SLOTS = MAX_TOPK  # which the slots are filled by; more also take the memory of the machine, for their masks
MIN_STRETCHED = 32  # pixels of an edge of images that a model stretches to its own size
SCORE_TOLERANCE = 1e-4  # between runtimes
MASK_SCORE_TOLERANCE = (
    1e-3  # the same where scores are means over thresholded masks, which a pixel more or less changes
)


@dataclass(frozen=True)
class ExportOptions:
    """What to export.

    Attributes:
        variant: "detections", "full-masks" or "raw".
        max_detections: Number K of slots per image, at most the model's limit; None for the limit.
        half: Whether to store weights as float16.
        int8: Whether convolutions multiply 8-bit integers.
        size: Height and width of the images; None if they are free.
    """

    variant: str = "detections"
    max_detections: int | None = None
    half: bool = False
    int8: bool = False
    size: tuple[int, int] | None = None


def check_export(form: Format, options: ExportOptions) -> None:
    """Check, before the work begins, that a format can be exported as asked for.

    Raises:
        ConfigError: The format does not support the options.
        MissingPackageError: A package is missing or does not work.
    """
    check_choice(form, options.variant, options.half, options.int8)
    if options.max_detections is not None:
        _check_slots(options.max_detections)
    if options.size is not None:
        check_image_size(options.size, ", or none for any")
    to_quantize = (form.to_quantize or ()) if options.int8 else ()
    check_packages((*form.to_write, *form.to_run, *to_quantize), f"exporting to {form.title}")


@dataclass(frozen=True)
class Traced:
    """A traced model, from which files of every format are written.

    Attributes:
        graph: The graph, as PyTorch runs it.
        program: The same as a program.
        options: What was asked for.
        about: The metadata of its files, but for what depends on the format.
    """

    graph: ExportedGraph
    program: ExportedProgram
    options: ExportOptions
    about: dict[str, Any]


def export_predictor(predictor: Predictor, form: Format, path: str, options: ExportOptions) -> Metadata:
    """Write the model of a predictor to a file; return what the file says about itself.

    Args:
        predictor: Its model is on the CPU, in float32.
        form: Format of the file.
        path: File to write.
        options: What to export.

    Raises:
        ConfigError: The model cannot be exported, or the file cannot be written.
        MissingPackageError: See :func:`check_export`.
    """
    check_export(form, options)
    return write_traced(trace_predictor(predictor, options), form, path)


def trace_predictor(predictor: Predictor, options: ExportOptions) -> Traced:
    """Return the traced model of a predictor.

    Args:
        predictor: Its model is on the CPU, in float32.
        options: What to export.

    Raises:
        ConfigError: The model cannot be exported.
    """
    if predictor.cfg.INPUT.CHANNELS != 3:
        raise ConfigError(
            f"INPUT.CHANNELS is {predictor.cfg.INPUT.CHANNELS}, but exported files are for images of three channels: "
            "predict with the checkpoint"
        )
    model: Any = instance_part(predictor.model).eval()
    limits = detection_limits(model)
    slots = _num_slots(options.max_detections, limits.max_detections)
    if options.variant != "raw":
        _check_slots(slots)
    num_classes = _num_classes(predictor.cfg)
    class_names = _class_names(predictor, num_classes)
    frame: MaskFrame = getattr(model, "mask_frame", MaskFrame())  # models of boxes have none
    source = GraphInput(max(model.backbone.size_divisibility, 1), getattr(model, "input_size", None))
    _check_size(options.size, source)
    graph = ExportedGraph(model, frame, source, options.variant, slots).eval()
    start = time.perf_counter()
    program = trace(graph, options.size, with_sizes=source.network_size is None)
    logger.info("traced the model in %.0f s", time.perf_counter() - start)
    about = {
        "system": predictor.cfg.MODEL.META_ARCHITECTURE,
        "variant": options.variant,
        "half": options.half,
        "int8": options.int8,
        "config": predictor.cfg.dump(),
        "class_names": class_names,
        "num_classes": num_classes,
        "input": _input(predictor, model, source, options.size, min_size(program)),
        "masks": _masks(frame, options.variant),
        "max_detections": slots,
        "score_threshold": float(limits.least_score),
        "display_threshold": default_score_threshold(predictor.cfg),
        "score_tolerance": MASK_SCORE_TOLERANCE if frame.boxes else SCORE_TOLERANCE,
        "outputs": {name: name for name in output_names(program)},
        "weights_sha256": sha256_of(PathManager.get_local_path(predictor.cfg.MODEL.WEIGHTS)),
    }
    return Traced(graph, program, options, about)


def write_traced(traced: Traced, form: Format, path: str, images: Sequence[Pixels] = ()) -> Metadata:
    """Write a traced model to a file; return what the file says about itself.

    Args:
        traced: The model.
        form: Format of the file.
        path: File to write.
        images: What 8-bit integers are calibrated on, (H, W, 3) uint8, resized and in the channel order of the model.

    Raises:
        ConfigError: The file cannot be written, or the model does not gain from 8-bit integers.
    """
    metadata = Metadata(**traced.about, format=form.name, versions=_versions(form))
    start = time.perf_counter()
    calibration = None
    if traced.options.int8:
        from .int8 import Calibration

        names = frozenset(f"model.{name}.weight" for name in quantizable(traced.graph.model))
        calibration = Calibration(images, names)
    resolve(form.writer)(Target(traced.program, metadata, path, calibration))
    logger.info("wrote %s in %.0f s", path, time.perf_counter() - start)
    return metadata


def _num_slots(asked: int | None, limit: int) -> int:
    """Return the number of slots of a graph, which would find more than the model if it had more than its limit."""
    if limit <= 0:
        return asked or MAX_DETECTIONS
    if asked is not None and asked > limit:
        logger.warning("the model finds at most %d instances in an image, fewer than max_detections", limit)
    return min(asked or limit, limit)


def _check_slots(number: object) -> None:
    """Raise ConfigError unless a graph can have so many slots."""
    if not integer(1, MAX_SLOTS).allows(number):
        raise ConfigError(f"max_detections cannot be {number!r}: give 1 to {MAX_SLOTS}, or None")


def _check_size(size: tuple[int, int] | None, source: GraphInput) -> None:
    """Raise ConfigError if a fixed size is so small that the network would see more padding than image."""
    least = source.divisibility if source.network_size is None else MIN_STRETCHED
    if size is not None and min(size) < least:
        raise ConfigError(f"images of {size[0]} x {size[1]} pixels are too small for this model: give at least {least}")


def _input(
    predictor: Predictor, model: Any, source: GraphInput, size: tuple[int, int] | None, least: tuple[int, int]
) -> Input:
    cfg = predictor.cfg
    return Input(
        channel_order=cfg.INPUT.FORMAT,
        mean=tuple(model.pixel_mean.flatten().tolist()),
        std=tuple(model.pixel_std.flatten().tolist()),
        divisibility=source.divisibility,
        resize=Resize(
            short_edge=int(cfg.INPUT.MIN_SIZE_TEST),
            max_long_edge=int(cfg.INPUT.MAX_SIZE_TEST),
            stretch=source.network_size is not None,
        ),
        size=size,
        min_size=size or least,
        image_sizes=source.network_size is None,
    )


def _masks(frame: MaskFrame, variant: str) -> Masks:
    """Return what the masks of a variant mean: full masks are already in the frame of the input, 0 and 1."""
    if variant == "full-masks" and frame.frame != "none":
        frame = MaskFrame("input", stride=1, boxes=frame.boxes)
    return Masks(**frame._asdict())


def _num_classes(cfg: Any) -> int:
    system = find_system(cfg.MODEL.META_ARCHITECTURE)
    if system is None:
        raise ConfigError(f"the system {cfg.MODEL.META_ARCHITECTURE} has no record: register it to export its models")
    return int(value_of(cfg, system.num_classes_key))


def _class_names(predictor: Predictor, number: int) -> tuple[str, ...] | None:
    """Return the names of a model's classes; None if they are unknown, or of other classes."""
    names = predictor.metadata.get("thing_classes")
    if names and len(names) != number:
        logger.warning(
            "the file has no names of classes: there are %s for %s",
            counted(len(names), "name"),
            counted(number, "class"),
        )
        return None
    return tuple(names) if names else None


def _versions(form: Format) -> dict[str, str]:
    packages = {package.name: package_version(package.name) or "" for package in form.to_write}
    return {"centermask_solo": __version__, "python": platform.python_version(), **packages}
