"""Calibration of 8-bit integers on images, and how far the result is from float32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from detectron2.config import CfgNode
from detectron2.structures import BoxMode, Instances
from pycocotools import mask as rle
from tqdm import tqdm

from ..checkpoint.files import without_query
from ..evaluation.pairing import pair_detections
from ..modeling.quantization import calibrate, write_ranges
from ..modeling.systems import default_score_threshold
from ..utils.errors import ConfigError
from ..utils.files import claim_file
from ..utils.rules import check_count
from .predictor import Predictor
from .sources import find_images

COMPARED = 16  # images on which the precisions are compared
MATCH_IOU = 0.5  # of the masks, or the boxes, of what may be the same detection


class Agreement(NamedTuple):
    """How far the detections of two precisions are apart, above a score.

    Attributes:
        reference: Number of detections in float32.
        found: Number of detections in int8.
        matched: Number of pairs among them, of the same class.
        mean_iou: Mean IoU of the masks, or of the boxes, of a pair.
        score: Mean difference of the scores of a pair.
    """

    reference: int
    found: int
    matched: int
    mean_iou: float
    score: float


def calibrate_to_file(
    cfg: CfgNode,
    inputs: Sequence[str],
    output: str,
    *,
    count: int = 64,
    score_threshold: float | None = None,
    overwrite: bool = False,
) -> Agreement:
    """Write the ranges of the feature maps of a model, for ``TEST.INT8_RANGES``; compare both precisions.

    Args:
        cfg: Config as for :class:`Predictor`; on a CPU.
        inputs: Images, folders and patterns; such as the model will see.
        output: Json file to write.
        count: Number of images to take, spread evenly over ``inputs``.
        score_threshold: Score from which on detections are compared (default: the threshold of the config's system).
        overwrite: Whether ``output`` is replaced if it exists.

    Raises:
        ConfigError: ``count`` is not positive, ``output`` exists or is an input, or the device is a GPU.
        DataError: An image cannot be read.
    """
    check_count(count, "images")
    if not cfg.MODEL.DEVICE.startswith("cpu"):
        raise ConfigError(f"int8 needs a CPU, but MODEL.DEVICE is {cfg.MODEL.DEVICE!r}: set it to cpu")
    paths = find_images(inputs)
    claim_file(output, [*paths, without_query(cfg.MODEL.WEIGHTS)], overwrite=overwrite)
    paths = _spread(paths, count)
    cfg = cfg.clone()
    cfg.defrost()
    cfg.TEST.DTYPE, cfg.TEST.COMPILE = "float32", False  # compiled networks would not call what observes them
    exact = Predictor(cfg)
    ranges = calibrate(exact.model, _inputs(exact, tqdm(paths, desc="calibrate")))
    if not ranges:
        raise ConfigError(f"no convolution of {cfg.MODEL.WEIGHTS} gains from int8: predict in bfloat16 or float32")
    write_ranges(ranges, output)
    cfg.TEST.DTYPE, cfg.TEST.INT8_RANGES = "int8", output
    threshold = default_score_threshold(cfg) if score_threshold is None else score_threshold
    return compare_precisions(exact, Predictor(cfg), _spread(paths, COMPARED), threshold)


def _inputs(predictor: Predictor, paths: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
    for path in paths:
        yield [predictor.model_input(predictor.read(path))]


def _spread(paths: Sequence[str], count: int) -> list[str]:
    """Return at most ``count`` paths, at even distances."""
    return [paths[i] for i in sorted(set(np.linspace(0, len(paths) - 1, min(count, len(paths))).round().astype(int)))]


def compare_precisions(exact: Predictor, fast: Predictor, paths: Sequence[str], threshold: float) -> Agreement:
    """Return how far the detections of two predictors are apart."""
    counts, ious, scores = np.zeros(2, int), [], []
    for path in tqdm(paths, desc="compare"):
        pair = [_found(predictor, path, threshold) for predictor in (exact, fast)]
        counts += [len(x) for x in pair]
        overlaps = _overlaps(*pair)
        for i, j in pair_detections(np.where(overlaps >= MATCH_IOU, overlaps, -np.inf)):
            ious.append(overlaps[i, j])
            scores.append(abs(float(pair[0].scores[i] - pair[1].scores[j])))
    mean_iou, score = (float(np.mean(x)) if x else 0.0 for x in (ious, scores))
    return Agreement(int(counts[0]), int(counts[1]), len(ious), mean_iou, score)


def _found(predictor: Predictor, path: str, threshold: float) -> Instances:
    predictor.mask_format = "rle"
    instances = predictor(path)["instances"].to("cpu")
    return instances[instances.scores >= threshold]


def _overlaps(a: Instances, b: Instances) -> np.ndarray:
    """Return the IoU of each detection of ``a`` with each of ``b``, 0 for those of other classes: (M, R) float64."""
    if not len(a) or not len(b):
        return np.zeros((len(a), len(b)))
    if a.has("pred_masks"):
        shapes = [x.pred_masks.codes for x in (a, b)]
    else:
        boxes = (x.pred_boxes.tensor.double() for x in (a, b))
        shapes = [BoxMode.convert(x, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS).numpy() for x in boxes]
    ious = np.asarray(rle.iou(*shapes, [0] * len(b)))
    ious[a.pred_classes.numpy()[:, None] != b.pred_classes.numpy()] = 0
    return ious
