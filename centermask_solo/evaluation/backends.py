"""What computes COCO's metrics: pycocotools, or a faster implementation with the same results."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from detectron2.evaluation.coco_evaluation import COCOevalMaxDets
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval, Params

from ..utils.errors import ConfigError
from ..utils.packages import missing_backend
from .ground_truth import with_results

logger = logging.getLogger(__name__)

Results = Sequence[dict[str, Any]]

AUTO = "auto"
# In the order of "auto", the fastest first, with the module that must exist
_MODULES = {
    "hotcoco": "hotcoco",
    "faster-coco-eval": "faster_coco_eval",
    "detectron2": "detectron2._C",
    "pycocotools": "pycocotools",
}
BACKENDS = (AUTO, *_MODULES)


def installed_backends() -> list[str]:
    """Return the backends that can run here, in the order in which "auto" prefers them."""
    return [name for name, module in _MODULES.items() if _exists(module)]


def find_backend(name: str) -> str:
    """Return the backend that ``TEST.EVAL_BACKEND`` chooses.

    Raises:
        ConfigError: There is none of this name.
        MissingPackageError: Its package is not installed.
    """
    if name not in BACKENDS:
        raise ConfigError(f"TEST.EVAL_BACKEND '{name}' is not one of {', '.join(BACKENDS)}")
    if name == AUTO:
        return installed_backends()[0]
    if not _exists(_MODULES[name]):
        raise missing_backend(name)
    return name


def evaluate_coco(
    backend: str,
    ground_truth: COCO,
    results: Results,
    iou_type: str,
    max_dets: Sequence[int],
    img_ids: Sequence[int] | None = None,
) -> COCOeval:
    """Return the finished evaluation of boxes or masks: its ``stats``, ``eval`` and ``params``.

    Args:
        backend: From :func:`find_backend`.
        ground_truth: Annotated images.
        results: All detections in COCO's format, at least one, of images of the ground truth. Not changed.
        iou_type: "bbox" or "segm".
        max_dets: Three numbers of detections per image and class; the last one is that of the average precision.
        img_ids: Images to evaluate; None for all.

    Differs: pycocotools' average precision for other numbers than 100 is -1, Detectron2's and this one is not.
    """
    evaluation = COCOevalMaxDets(iouType=iou_type)
    params = evaluation.params
    params.imgIds = sorted({x["id"] for x in ground_truth.dataset["images"]} if img_ids is None else set(img_ids))
    params.catIds = sorted(x["id"] for x in ground_truth.dataset["categories"])
    params.maxDets = sorted(max_dets)
    logger.info("COCO's metrics of %s by %s %s", iou_type, backend, _version(backend))
    run = _by_hotcoco if backend == "hotcoco" else _like_pycocotools
    evaluation.eval = run(backend, ground_truth, results, params)
    evaluation.summarize()
    return evaluation


def _like_pycocotools(backend: str, ground_truth: COCO, results: Results, params: Params) -> dict[str, Any]:
    """Return the precision and recall of a class with the methods of pycocotools' ``COCOeval``."""
    if backend == "faster-coco-eval":
        from faster_coco_eval.core.faster_eval_api import COCOeval_faster as Evaluation
    elif backend == "detectron2":
        from detectron2.evaluation.fast_eval_api import COCOeval_opt as Evaluation
    else:
        Evaluation = COCOeval
    evaluation = Evaluation(ground_truth, with_results(ground_truth, results, params.iouType), params.iouType)
    for name in ("imgIds", "catIds", "maxDets"):
        setattr(evaluation.params, name, getattr(params, name))
    evaluation.evaluate()
    evaluation.accumulate()
    curves: dict[str, Any] = evaluation.eval
    return curves


def _by_hotcoco(backend: str, ground_truth: COCO, results: Results, params: Params) -> dict[str, Any]:
    """Return precision and recall, image by image, so that neither ground truth nor detections exist twice."""
    import hotcoco

    del backend
    settings = hotcoco.Params(params.iouType)
    settings.max_dets = list(params.maxDets)
    stream = hotcoco.StreamingEval([{"id": i, "name": str(i)} for i in params.catIds], params.iouType, params=settings)
    geometry = "segmentation" if params.iouType == "segm" else "bbox"
    annotations = ground_truth.dataset["annotations"]
    rows, found_rows = _rows_of_images(annotations), _rows_of_images(results)
    images = {x["id"]: x for x in ground_truth.dataset["images"]}
    for number, image_id in enumerate(params.imgIds, start=1):  # instead of ids, which a json may have as texts
        objects = [{**_part(annotations[i], number, geometry), "id": i + 1} for i in rows[image_id]]
        found = [_part(results[i], number, geometry) for i in found_rows[image_id]]
        size = {key: images[image_id].get(key, 0) for key in ("height", "width")}
        stream.update([{"id": number, **size}], objects, found)
    finished = stream.finalize()
    finished.accumulate()
    return finished.eval or {}


def _rows_of_images(records: Results) -> defaultdict[Any, list[int]]:
    """Return the indices of the records of each image."""
    rows = defaultdict(list)
    for i, x in enumerate(records):
        rows[x["image_id"]].append(i)
    return rows


def _part(record: dict[str, Any], number: int, geometry: str) -> dict[str, Any]:
    """Return what the metrics need of an object or a detection, for the image of this number."""
    kept = ("category_id", "score", "area", "iscrowd", geometry)
    return {"image_id": number, **{key: record[key] for key in kept if key in record}}


def _exists(module: str) -> bool:
    """Return whether a module can be imported; a compiled one may be there for another version of Python."""
    if module in sys.modules:
        return True
    if module != "detectron2._C":
        return importlib.util.find_spec(module) is not None
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # Detectron2's distribution has several names
        return ""
