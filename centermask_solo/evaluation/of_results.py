"""The official metrics of results that were written earlier, by this or any other program."""

from __future__ import annotations

import contextlib
import io
import os
from collections import Counter, defaultdict
from typing import Any

from ..data.datasets import (
    class_names,
    find_files,
    has_instances_json,
    is_lvis,
    load_dataset,
    load_test_images,
    load_through_gate,
    usable_annotations,
)
from ..data.formats.panoptic import VOID, read_panoptic_json, read_segment_ids
from ..data.own_files import register_files
from ..utils.errors import ConfigError, DataError
from .backends import AUTO, find_backend
from .build import COCO_MAX_DETECTIONS, LVIS_MAX_DETECTIONS, check_evaluator
from .lvis import MaskScoreLVISEvaluator
from .mask_score import MaskScoreCOCOEvaluator
from .panoptic_quality import PanopticCounts, match_segments
from .results_file import Record, Results, parse_results, read_json

MIN_LIMIT = 10  # of detections: COCO's metrics always have the recall of 10
Metrics = dict[str, dict[str, float]]


def evaluate_results(
    path: str,
    ground_truth: str = "",
    images: str = "",
    *,
    dataset: str = "",
    max_detections: int | None = None,
    backend: str = AUTO,
) -> Metrics:
    """Return the metrics of a results file, as the evaluation of a model has them.

    Args:
        path: A list in COCO's format for results, such as ``coco_instances_results.json``; ``predictions.json`` of
            ``centermask-solo predict``; or a json in COCO's panoptic format beside a folder of PNGs of the same name.
        ground_truth: Annotations in COCO's, LVIS's or COCO's panoptic format.
        images: Folder of the PNGs of a panoptic ground truth; other images are not read.
        dataset: Name of a registered dataset, instead of both.
        max_detections: How many detections of an image count; of each class in COCO's metrics (default: as many as the
            results have, but at least the 100 of the official metrics of COCO and the 300 of LVIS); at least 10.
        backend: What computes COCO's metrics: see ``TEST.EVAL_BACKEND``.

    Raises:
        ConfigError: The dataset is unknown or of another kind, the limit is too low, or there is no such backend.
        DataError: A file has a fault, or the results are of other images or classes.
        MissingPackageError: A package is not installed.
    """
    backend = find_backend(backend)
    data = read_json(path)
    if _is_panoptic(data):
        if dataset:
            metadata = find_files(dataset)
            ground_truth, images = metadata.get("panoptic_json", ""), metadata.get("panoptic_root", "")
        if not (ground_truth and images):
            raise ConfigError(f"{path} has panoptic results: give a panoptic json and the folder of its PNGs")
        return {"panoptic_seg": evaluate_panoptic_results(path, data, ground_truth, images)}
    if max_detections is not None and max_detections < MIN_LIMIT:
        raise ConfigError(f"COCO's metrics of {max_detections} detections do not exist: allow {MIN_LIMIT} or more")
    records = data if isinstance(data, list) else data.get("annotations", ()) if isinstance(data, dict) else ()
    masks = any(isinstance(x, dict) and "segmentation" in x for x in records)
    name = dataset or register_files(ground_truth, images, masks=masks)
    return _evaluate_instances(path, data, name, masks, max_detections, backend)


def evaluate_panoptic_results(path: str, data: Record, json_file: str, png_root: str) -> dict[str, float]:
    """Return the panoptic quality of results in COCO's panoptic format; see :class:`~.panoptic.PanopticEvaluator`.

    Args:
        path: The json of the results, whose PNGs are in the folder of the same name.
        data: Its content.
        json_file: The json of the ground truth.
        png_root: Folder of its PNGs.

    Raises:
        DataError: A file is missing or has a fault, or the results are of other images or categories.
    """
    gt, folder, counts = read_panoptic_json(json_file), os.path.splitext(path)[0], PanopticCounts()
    try:
        found = {x["image_id"]: (x["file_name"], _categories(x["segments_info"])) for x in data["annotations"]}
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{path} is no panoptic results file ({type(error).__name__}: {error}): create it again"
        ) from error
    unknown = {c for _, x in found.values() for c in x.values()} - set(gt.is_thing)
    others = set(found) - {x.image_id for x in gt.images}
    if unknown or others:
        what = f"category {min(unknown)}" if unknown else f"image {min(others)}"
        raise DataError(f"{path} has the {what}, which {json_file} lacks: give the ground truth of these results")
    for image in gt.images:
        gt_ids = read_segment_ids(os.path.join(png_root, image.file_name), image)
        file_name, categories = found.get(image.image_id, ("", {}))
        ids = read_segment_ids(os.path.join(folder, file_name)) if file_name else VOID * gt_ids
        if ids.shape != gt_ids.shape:
            raise DataError(f"{os.path.join(folder, file_name)} has another size than its ground truth: replace it")
        counts += match_segments(gt_ids, image.categories, image.crowds, ids, categories)
    return counts.qualities(gt.is_thing)


def _is_panoptic(data: Any) -> bool:
    annotations = data.get("annotations") if isinstance(data, dict) else None
    return bool(annotations) and isinstance(annotations, list) and "segments_info" in annotations[0]


def _categories(segments: list[Record]) -> dict[int, int]:
    return {x["id"]: x["category_id"] for x in segments}


def _evaluate_instances(
    path: str, data: Any, dataset_name: str, masks: bool, max_detections: int | None, backend: str
) -> Metrics:
    metadata = find_files(dataset_name)
    if not has_instances_json(metadata):
        raise ConfigError(f"the dataset '{dataset_name}' has no annotation file in COCO's or LVIS's format")
    check_evaluator(dataset_name)
    load_through_gate(dataset_name, masks=masks)
    samples = load_test_images(dataset_name)
    samples = list(load_dataset(dataset_name)) if samples is None else samples
    root = metadata.get("image_root", "")
    images = [{**x, "id": x["image_id"], "file_name": os.path.relpath(x["file_name"], root or ".")} for x in samples]
    names = class_names(dataset_name) or []
    class_ids = metadata.get("thing_dataset_id_to_contiguous_id") or {i + 1: i for i in range(len(names))}
    categories = {names[i]: category for category, i in sorted(class_ids.items(), key=lambda x: x[1])}
    results = parse_results(path, data, images, categories)
    most = max(Counter(results.images.tolist()).values(), default=0)
    lvis = is_lvis(metadata)
    limit = max_detections or max(most, LVIS_MAX_DETECTIONS if lvis else COCO_MAX_DETECTIONS)
    options: dict[str, Any] = {"distributed": False, "output_dir": None, "max_dets_per_image": limit}
    if not lvis:
        options["backend"] = backend
    with usable_annotations(dataset_name, masks=masks):
        evaluator: Any = (MaskScoreLVISEvaluator if lvis else MaskScoreCOCOEvaluator)(dataset_name, **options)
    predictions, tasks = _predictions(results, [x["id"] for x in images])
    evaluator.reset()
    evaluator.take(predictions, tasks)
    with contextlib.redirect_stdout(io.StringIO()):  # COCO's own table
        found: Metrics = evaluator.evaluate()
    return found


def _predictions(results: Results, image_ids: list[Any]) -> tuple[list[Record], list[str]]:
    """Return the results of each image, with the classes of a model, and what they are: "bbox", "segm" or both.

    Raises:
        DataError: A result is damaged, or has neither.
    """
    results.scores()
    tasks = []
    if results.has_boxes:
        results.boxes()
        tasks.append("bbox")
    if results.has_masks:
        results.masks()
        results.scores("mask_score")
        tasks.append("segm")
    if results.records and not tasks:
        raise DataError(f"{results.path}: not every result has a bbox or a segmentation: create the file again")
    of_image: defaultdict[int, list[Record]] = defaultdict(list)
    for x, image, label in zip(results.records, results.images.tolist(), results.classes.tolist(), strict=True):
        of_image[image].append({**x, "category_id": label})
    predictions = [{"image_id": image_id, "instances": of_image[i]} for i, image_id in enumerate(image_ids)]
    return predictions, tasks or ["bbox", "segm"]
