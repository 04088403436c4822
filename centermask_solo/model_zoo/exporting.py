"""From a weight file alone to an exported file that has been compared with PyTorch."""

from __future__ import annotations

import dataclasses
import logging
import os
import tempfile
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from detectron2.config import CfgNode

from ..checkpoint.files import without_query
from ..data.datasets import find_files
from ..data.input_images import as_bgr
from ..data.own_files import register_files
from ..data.pixels import Pixels
from ..data.shapes.generator import draw_shapes
from ..evaluation.results import average_precisions
from ..export.exporter import ExportOptions, Traced, check_export, trace_predictor, write_traced
from ..export.raw_verification import RawVerification, verify_raw
from ..export.verification import Verification, find_references, verify
from ..inference.predictor import Predictor
from ..inference.sources import find_images
from ..modeling.instance_part import instance_part
from ..runtime.formats import as_path, choose_format, files_of, format_of_file, unverified_name
from ..runtime.metadata import Input
from ..runtime.predictor import ExportedPredictor
from ..runtime.resizing import resize
from ..utils.errors import ConfigError
from ..utils.files import claim_file
from .evaluating import evaluate_weights
from .lookup import load_cfg

logger = logging.getLogger(__name__)

NUM_GENERATED = 4  # images that a file is compared on if none are given
AS_EXPORTED = (  # options of a model that computes as its graph does
    *("MODEL.DEVICE", "cpu", "MODEL.CHANNELS_LAST", "False", "TEST.DTYPE", "float32"),
    *("TEST.COMPILE", "False", "TEST.CUDA_GRAPHS", "False", "TEST.AUG.ENABLED", "False"),
)
RATIOS = ((1.0, 1.0), (0.7, 1.0), (1.0, 0.75))  # parts of their height and width that are used, in turn


def export_model(
    weights: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    format: str = "",
    variant: str = "detections",
    max_detections: int | None = None,
    half: bool = False,
    int8: Sequence[str] = (),
    size: tuple[int, int] | None = None,
    verify: bool = True,
    images: Sequence[str] = (),
    ground_truth: str = "",
    dataset: str = "",
    config_file: str = "",
    class_names: Sequence[str] | None = None,
    overwrite: bool = False,
    opts: Sequence[str] = (),
) -> Verification | RawVerification | None:
    """Write a model as a file of another runtime and compare the two; return the comparison, None without one.

    Until they have been compared, the file is named like "model.unverified.onnx"; if they differ by more than the
    comparison allows, it stays under that name, and a file that ``output`` names stays what it was.

    Args:
        weights: Path or URL of a weight file, or "centermask_solo://" and the name of a config; see
            :func:`centermask_solo.load`.
        output: File to write; its suffix chooses the format.
        format: "onnx", "openvino" or "pt2", where the suffix shall be checked against it.
        variant: "detections"; "full-masks", with masks of the size of the input; or "raw", before decoding.
        max_detections: Number of slots per image (default: the model's limit, or 100).
        half: Store weights as float16: half the size of the file, results a little different.
        int8: Files, folders and patterns of images like those to predict, on which 8-bit integers are calibrated; the
            comparison then states the loss.
        size: Height and width of the images; by default any, whose sizes a batch may mix.
        verify: Compare the file with PyTorch.
        images: Files, folders and patterns of the images to compare on (default: four generated ones).
        ground_truth: Annotations in COCO's or LVIS's format; the comparison then states the AP of both. ``images`` is
            the folder of their images, of which four are compared.
        dataset: Name of a registered dataset, instead of ``ground_truth`` and ``images``.
        config_file: Config of the weights, where it cannot be found.
        class_names: Names of the classes, in order, where the weights have none.
        overwrite: Whether ``output`` is replaced if it exists.
        opts: Config options to override, keys and values in turn.

    Raises:
        ConfigError: The format does not support what is asked for, ``output`` exists or is an input, the model cannot
            be exported, or its config is wrong.
        DataError: One of ``images`` cannot be read, or the ground truth has a fault.
        MissingPackageError: A package of the format is missing or in a version that does not work.
        WeightsError: The weights are missing or do not fill the model.
    """
    path, source = as_path(output), as_path(weights)
    images, int8 = ([x] if isinstance(x, str) else x for x in (images, int8))
    form = choose_format(format, path)
    options = ExportOptions(variant, max_detections, half, bool(int8), size)
    check_export(form, options)
    evaluated = _find_ground_truth(ground_truth, dataset, images, options, verify)
    if images and not verify:
        raise ConfigError("without a comparison, images have no use: leave out --images or --no-verify")
    paths, calibration = (find_images(x) if x else [] for x in (images, int8))
    temporary = unverified_name(path) if verify else path
    inputs = [without_query(source), *filter(None, [config_file, ground_truth]), *paths, *calibration]
    for file in [*files_of(path), *files_of(temporary)]:
        claim_file(file, inputs, overwrite=overwrite)
    predictor = Predictor(on_the_cpu(load_cfg(source, config_file, opts)), class_names)
    exact = _evaluate(source, evaluated, config_file, opts) if evaluated else {}  # first: it finds faults of the data
    traced = trace_predictor(predictor, options)
    most_pixels = predictor.cfg.INPUT.MAX_IMAGE_PIXELS
    write_traced(traced, form, temporary, [x for _, x in fit(read_images(calibration, most_pixels), traced)])
    if not verify:
        return None
    chosen = paths[:NUM_GENERATED] if ground_truth else paths or calibration[:NUM_GENERATED]
    found = verify_file(predictor, traced, temporary, read_images(chosen, most_pixels) or generated())
    if evaluated and isinstance(found, Verification):
        found = dataclasses.replace(
            found, average_precisions=average_precisions(exact, _evaluate(temporary, evaluated))
        )
    if not found.faults:
        for verified, final in reversed(list(zip(files_of(temporary), files_of(path), strict=True))):
            os.replace(verified, final)
    return found


def _find_ground_truth(
    ground_truth: str, dataset: str, images: Sequence[str], options: ExportOptions, verify: bool
) -> str:
    """Return the name of the dataset whose AP is stated; "" for none."""
    if not (ground_truth or dataset):
        return ""
    if ground_truth and dataset:
        raise ConfigError(f"both {ground_truth} and the dataset {dataset} are ground truth: give one of them")
    if not verify or options.variant == "raw" or options.size:
        raise ConfigError("the AP needs a comparison of detections at any size: leave out --no-verify, raw and --size")
    if dataset:
        find_files(dataset)
        return dataset
    if len(images) != 1:
        raise ConfigError(f"give the folder of the images of {ground_truth}, and nothing else, with --images")
    if not os.path.isdir(images[0]):
        raise ConfigError(f"{images[0]} is no folder: give that of the images of {ground_truth} with --images")
    return register_files(ground_truth, images[0])


def _evaluate(weights: str, dataset: str, config_file: str = "", opts: Sequence[str] = ()) -> dict[str, Any]:
    """Return the metrics of weights on the CPU in float32, or of an exported file."""
    exported = format_of_file(without_query(weights)) is not None
    with tempfile.TemporaryDirectory() as folder:
        return evaluate_weights(
            weights,
            dataset=dataset,
            output_dir=os.path.join(folder, "evaluation"),
            config_file=config_file,
            opts=() if exported else [*opts, *AS_EXPORTED],  # whose options are fixed
            screen="nothing",
        )


def read_images(paths: Sequence[str], most_pixels: int) -> list[tuple[str, Pixels]]:
    """Return the names and pixels of image files, (H, W, 3) uint8 in BGR order."""
    return [(os.path.basename(x), as_bgr(x, most_pixels)) for x in paths]


def verify_file(
    predictor: Predictor, traced: Traced, path: str, samples: Sequence[tuple[str, Pixels]]
) -> Verification | RawVerification:
    """Return the comparison of an exported file with the predictor that it was made from.

    Args:
        predictor: The predictor.
        traced: Its traced model.
        path: The file.
        samples: Names and images, (H, W, 3) uint8 in BGR order.
    """
    images = fit(samples, traced)
    if traced.options.variant == "raw":
        return verify_raw(traced.graph, path, images)
    return verify(find_references(instance_part(predictor.model), images), ExportedPredictor(path), images)


def fit(samples: Sequence[tuple[str, Pixels]], traced: Traced) -> list[tuple[str, Pixels]]:
    """Return named images in BGR order as a traced model takes them."""
    rule: Input = traced.about["input"]
    return [(name, _fit(image, rule)) for name, image in samples]


def generated() -> list[tuple[str, Pixels]]:
    """Return names and images, (H, W, 3) uint8 in BGR order, that need no files."""
    samples = []
    for i in range(NUM_GENERATED):
        image = draw_shapes("export", i).image[:, :, ::-1]
        height, width = (int(n * part) for n, part in zip(image.shape[:2], RATIOS[i % len(RATIOS)], strict=True))
        samples.append((f"generated {i + 1}", image[:height, :width]))
    return samples


def _fit(image: Pixels, rule: Input) -> Pixels:
    """Return an image as the model takes it; for a fixed size, stretched, because PyTorch pads less."""
    if rule.size is not None:
        image = np.asarray(cv2.resize(image, rule.size[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)
    return resize(image, rule)


def on_the_cpu(cfg: CfgNode) -> CfgNode:
    """Return a config whose model computes as the graph does: on the CPU, in float32, as it was built."""
    if cfg.TEST.AUG.ENABLED:
        logger.warning("exported files have no test-time augmentation: TEST.AUG.ENABLED becomes False")
    cfg.merge_from_list(list(AS_EXPORTED))
    return cfg
