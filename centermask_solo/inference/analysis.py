"""Analyze the results of one model, or compare those of two, and write a page and a json."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from ..data.datasets import find_files, has_instances_json
from ..evaluation.analysis import (
    Analysis,
    Comparison,
    analyze_detections,
    compare_detections,
    read_annotated,
    read_detected,
)
from ..evaluation.analysis.evaluated import MAX_DETECTIONS
from ..evaluation.lvis import MAX_DETECTIONS as LVIS_MAX_DETECTIONS
from ..utils.errors import ConfigError
from ..utils.files import atomic_write, claim_file, is_same
from ..visualization.html_page import check_page_name
from .analysis_page import make_comparison_page, make_page
from .analysis_pictures import Painter

PICTURES = 24  # of the worst images and of the mistakes, each


def analyze(
    results: Sequence[str],
    ground_truth: str = "",
    images: str = "",
    *,
    dataset: str = "",
    page: str = "",
    json_file: str = "",
    boxes: bool = False,
    max_detections: int | None = None,
    score_threshold: float | None = None,
    pictures: int = PICTURES,
    overwrite: bool = False,
) -> Analysis | Comparison:
    """Return the analysis of the results of one model, or of two, of which the second is compared with the first.

    Args:
        results: One or two results files: lists in COCO's format, or ``predictions.json`` of ``predict``.
        ground_truth: Annotations in COCO's or LVIS's format.
        images: Folder of their images, which the page shows; "" for a page without them.
        dataset: Name of a registered dataset, instead of both.
        page: HTML file to write; "" for none.
        json_file: File for the numbers; "" for none.
        boxes: Analyze boxes even if there are masks.
        max_detections: How many detections of an image and class count (default: 100; for LVIS, of an image: 300).
        score_threshold: For the confusion of classes and the worst images (default: that of the highest F1).
        pictures: How many of the worst images, and of the most confident mistakes, are drawn.
        overwrite: Whether ``page`` and ``json_file`` are replaced if they exist.

    Raises:
        ConfigError: There are not one or two results files, the dataset is unknown or not in COCO's format, or an
            output exists or is an input.
        DataError: A file has a fault.
    """
    if len(results) not in (1, 2):
        raise ConfigError(f"there are {len(results)} results files: give one, or two to compare")
    if dataset:
        ground_truth, images = _registered_files(dataset)
    _claim([*results, ground_truth], page, json_file, overwrite=overwrite)
    annotated = read_annotated(ground_truth, "bbox" if boxes else "segm")
    painter = Painter(annotated, images) if page and images and pictures else None
    found = [read_detected(path, annotated, "bbox" if boxes else None) for path in results]
    if len({x.iou_type for x in found}) > 1:
        raise ConfigError(f"of {' and '.join(results)} only one has masks: compare their boxes with --boxes")
    limit = max_detections or (MAX_DETECTIONS if annotated.federation is None else LVIS_MAX_DETECTIONS)
    names = _short_names(results)
    if len(found) == 1:
        analysis = analyze_detections(annotated, found[0], max_detections=limit, score_threshold=score_threshold)
        made = make_page(analysis, names[0], painter, pictures) if page else None
        numbers = {"results": results[0], **analysis.to_json()}
    else:
        comparison = compare_detections(
            annotated, found[0], found[1], max_detections=limit, score_threshold=score_threshold
        )
        made = make_comparison_page(comparison, (names[0], names[1]), painter, pictures) if page else None
        numbers = {"results": list(results), **comparison.to_json()}
    if json_file:
        with atomic_write(json_file) as file:
            json.dump(numbers, file, indent=1)
    if made is not None:
        made.write(page)
    return analysis if len(found) == 1 else comparison


def _registered_files(name: str) -> tuple[str, str]:
    """Return the annotation file and the folder of images of a registered dataset."""
    metadata = find_files(name)
    if not has_instances_json(metadata):
        raise ConfigError(f"the dataset '{name}' has no annotation file in COCO's format, whose results are analyzed")
    return metadata.json_file, metadata.get("image_root", "")


def _claim(inputs: Sequence[str], page: str, json_file: str, *, overwrite: bool) -> None:
    """Check, before the work begins, that the outputs may be written."""
    if page:
        check_page_name(page)
    for path in filter(None, (page, json_file)):
        claim_file(path, inputs, overwrite=overwrite)
    if page and json_file and is_same(page, json_file):
        raise ConfigError(f"the page and the json are both {page}: choose another name for one of them")


def _short_names(paths: Sequence[str]) -> list[str]:
    """Return the names of files, or of the innermost folders that tell them apart."""
    parts = [os.path.abspath(path).split(os.sep)[::-1] for path in paths]
    differing = (names for names in zip(*parts, strict=False) if len(set(names)) == len(names))
    return [x or os.sep for x in next(differing, paths)]
